/* Administration: each operation's event, its results, its options and what is refused before a broker is asked. */
#include "check.h"
#include <unistd.h>

static rd_kafka_t *rk;
static rd_kafka_queue_t *queue;
static rd_kafka_event_t *event;
static char reason[256];
static int opaque;

/* The next event, which has to be this kind and, if `error` is not 0, that error. */
static rd_kafka_event_t *expect(rd_kafka_event_type_t type, rd_kafka_resp_err_t error) {
        if (event)
                rd_kafka_event_destroy(event);
        event = rd_kafka_queue_poll(queue, 60000);
        CHECK(event && rd_kafka_event_type(event) == type, "%s", event ? rd_kafka_event_name(event) : "nothing");
        CHECK(rd_kafka_event_error(event) == error, "%s: %s", rd_kafka_event_name(event), rd_kafka_event_error_string(event));
        return event;
}

static void refused(rd_kafka_event_type_t type, const char *why) {
        expect(type, RD_KAFKA_RESP_ERR__INVALID_ARG);
        CHECK(!strcmp(rd_kafka_event_error_string(event), why), "%s", rd_kafka_event_error_string(event));
}

static void options(void) {
        CHECK(!rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP__CNT) && !rd_kafka_AdminOptions_new(NULL, RD_KAFKA_ADMIN_OP_ANY));
        rd_kafka_AdminOptions_t *some = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_DELETETOPICS);
        CHECK(!rd_kafka_AdminOptions_set_request_timeout(some, 0, reason, sizeof reason));
        CHECK(rd_kafka_AdminOptions_set_request_timeout(some, -1, reason, sizeof reason) == RD_KAFKA_RESP_ERR__INVALID_ARG);
        CHECK(!strcmp(reason, "Invalid value type for \"request_timeout\": expecting integer in range 0..3600000"), "%s", reason);
        CHECK(!rd_kafka_AdminOptions_set_operation_timeout(some, -1, reason, sizeof reason));
        CHECK(!rd_kafka_AdminOptions_set_broker(some, 7, reason, sizeof reason));
        CHECK(rd_kafka_AdminOptions_set_validate_only(some, 1, reason, sizeof reason) == RD_KAFKA_RESP_ERR__INVALID_ARG);
        CHECK(!strcmp(reason, "\"validate_only\" is not supported for this operation"), "%s", reason);
        rd_kafka_error_t *error = rd_kafka_AdminOptions_set_require_stable_offsets(some, 1);
        CHECK(error && rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__INVALID_ARG);
        rd_kafka_error_destroy(error);
        rd_kafka_AdminOptions_destroy(some);
        rd_kafka_consumer_group_state_t twice[] = {RD_KAFKA_CONSUMER_GROUP_STATE_DEAD, RD_KAFKA_CONSUMER_GROUP_STATE_DEAD};
        some = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS);
        error = rd_kafka_AdminOptions_set_match_consumer_group_states(some, twice, 2);
        CHECK(error && !strcmp(rd_kafka_error_string(error), "Duplicate states not allowed"));
        rd_kafka_error_destroy(error);
        rd_kafka_AdminOptions_destroy(some);
}

static void topics(void) {
        int32_t brokers[] = {rd_kafka_controllerid(rk, 60000)};
        CHECK(!rd_kafka_NewTopic_new(NULL, 1, 1, reason, sizeof reason) && !strcmp(reason, "Invalid topic name"));
        CHECK(!rd_kafka_NewTopic_new("t", 0, 1, reason, sizeof reason) && strstr(reason, "1..100000 or -1"));
        CHECK(!rd_kafka_NewTopic_new("t", 1, -2, reason, sizeof reason) && strstr(reason, "replication_factor"));
        rd_kafka_NewTopic_t *new[] = {rd_kafka_NewTopic_new("a", 2, 1, reason, sizeof reason),
                                      rd_kafka_NewTopic_new("not a name", 1, 1, reason, sizeof reason),
                                      rd_kafka_NewTopic_new("b", -1, -1, reason, sizeof reason)};
        CHECK(!rd_kafka_NewTopic_set_config(new[0], "retention.ms", "123456"));
        CHECK(rd_kafka_NewTopic_set_config(new[0], NULL, "1") == RD_KAFKA_RESP_ERR__INVALID_ARG);
        CHECK(rd_kafka_NewTopic_set_replica_assignment(new[0], 0, brokers, 1, reason, sizeof reason) == RD_KAFKA_RESP_ERR__INVALID_ARG);
        CHECK(rd_kafka_NewTopic_set_replica_assignment(new[2], 1, brokers, 1, reason, sizeof reason) == RD_KAFKA_RESP_ERR__INVALID_ARG);
        for (int i = 0; i < 3; i++)
                CHECK(!rd_kafka_NewTopic_set_replica_assignment(new[2], i, brokers, 1, reason, sizeof reason), "%s", reason);

        rd_kafka_AdminOptions_t *dry = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
        CHECK(!rd_kafka_AdminOptions_set_validate_only(dry, 1, reason, sizeof reason));
        rd_kafka_AdminOptions_set_opaque(dry, &opaque);
        for (int i = 0; i < 3; i++) { /* a rehearsal, the real thing, and once more */
                size_t count;
                rd_kafka_CreateTopics(rk, new, 3, i ? NULL : dry, queue);
                expect(RD_KAFKA_EVENT_CREATETOPICS_RESULT, 0);
                CHECK(rd_kafka_event_opaque(event) == (i ? NULL : &opaque) && !rd_kafka_event_DeleteTopics_result(event));
                const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
                const rd_kafka_topic_result_t **made = rd_kafka_CreateTopics_result_topics(result, &count);
                rd_kafka_resp_err_t expected = i == 2 ? RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS : 0;
                CHECK(count == 3 && !strcmp(rd_kafka_topic_result_name(made[0]), "a"));
                CHECK(rd_kafka_topic_result_error(made[0]) == expected && rd_kafka_topic_result_error(made[2]) == expected,
                      "%d: %s", i, rd_kafka_topic_result_error_string(made[2]));
                CHECK(i == 2 || !rd_kafka_topic_result_error_string(made[0]));
                CHECK(rd_kafka_topic_result_error(made[1]) == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION &&
                      *rd_kafka_topic_result_error_string(made[1]));
                CHECK(!rd_kafka_DeleteTopics_result_topics(result, &count) && !count);
        }
        rd_kafka_AdminOptions_destroy(dry);
        rd_kafka_NewTopic_destroy_array(new, 3);
        rd_kafka_CreateTopics(rk, NULL, 0, NULL, queue);
        refused(RD_KAFKA_EVENT_CREATETOPICS_RESULT, "No topics to create");

        size_t count;
        CHECK(!rd_kafka_NewPartitions_new("a", 0, reason, sizeof reason) && strstr(reason, "1..100000"));
        rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new("a", 3, reason, sizeof reason);
        CHECK(!rd_kafka_NewPartitions_set_replica_assignment(more, 0, brokers, 1, reason, sizeof reason));
        rd_kafka_CreatePartitions(rk, &more, 1, NULL, queue);
        rd_kafka_NewPartitions_destroy(more);
        const rd_kafka_topic_result_t **grown =
            rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(expect(RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT, 0)), &count);
        CHECK(count == 1 && !rd_kafka_topic_result_error(grown[0]), "%s", rd_kafka_topic_result_error_string(grown[0]));
}

static void descriptions(void) {
        size_t count;
        const char *names[] = {"b", "none", "a"};
        rd_kafka_TopicCollection_t *three = rd_kafka_TopicCollection_of_topic_names(names, 3);
        rd_kafka_AdminOptions_t *with_operations = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_ANY);
        CHECK(!rd_kafka_AdminOptions_set_include_authorized_operations(with_operations, 1));
        rd_kafka_DescribeTopics(rk, three, with_operations, queue);
        rd_kafka_TopicCollection_destroy(three);
        const rd_kafka_TopicDescription_t **topic =
            rd_kafka_DescribeTopics_result_topics(rd_kafka_event_DescribeTopics_result(expect(RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT, 0)), &count);
        CHECK(count == 3 && !strcmp(rd_kafka_TopicDescription_name(topic[0]), "b") && !rd_kafka_TopicDescription_is_internal(topic[0]));
        CHECK(rd_kafka_error_code(rd_kafka_TopicDescription_error(topic[1])) == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
        CHECK(!rd_kafka_TopicDescription_error(topic[2]));
        const rd_kafka_Uuid_t *id = rd_kafka_TopicDescription_topic_id(topic[2]);
        CHECK(strlen(rd_kafka_Uuid_base64str(id)) == 22 && rd_kafka_Uuid_most_significant_bits(id));
        rd_kafka_Uuid_t *copy = rd_kafka_Uuid_new(rd_kafka_Uuid_most_significant_bits(id), rd_kafka_Uuid_least_significant_bits(id));
        CHECK(!strcmp(rd_kafka_Uuid_base64str(id), rd_kafka_Uuid_base64str(copy)));
        rd_kafka_Uuid_destroy(copy);
        CHECK(rd_kafka_TopicDescription_authorized_operations(topic[2], &count) && count > 3);
        const rd_kafka_TopicPartitionInfo_t **partitions = rd_kafka_TopicDescription_partitions(topic[2], &count);
        CHECK(count == 3 && rd_kafka_TopicPartitionInfo_partition(partitions[2]) == 2);
        int node = rd_kafka_Node_id(rd_kafka_TopicPartitionInfo_leader(partitions[0]));
        const rd_kafka_Node_t **replicas = rd_kafka_TopicPartitionInfo_replicas(partitions[0], &count);
        CHECK(count == 1 && rd_kafka_Node_id(replicas[0]) == node);
        CHECK(rd_kafka_TopicPartitionInfo_isr(partitions[0], &count) && count == 1);

        rd_kafka_DescribeCluster(rk, NULL, queue);
        const rd_kafka_DescribeCluster_result_t *cluster = rd_kafka_event_DescribeCluster_result(expect(RD_KAFKA_EVENT_DESCRIBECLUSTER_RESULT, 0));
        CHECK(rd_kafka_DescribeCluster_result_nodes(cluster, &count) && count == 1);
        CHECK(rd_kafka_Node_id(rd_kafka_DescribeCluster_result_controller(cluster)) == node);
        CHECK(*rd_kafka_DescribeCluster_result_cluster_id(cluster));
        CHECK(!rd_kafka_DescribeCluster_result_authorized_operations(cluster, &count) && !count);
        rd_kafka_DescribeCluster(rk, with_operations, queue);
        cluster = rd_kafka_event_DescribeCluster_result(expect(RD_KAFKA_EVENT_DESCRIBECLUSTER_RESULT, 0));
        CHECK(rd_kafka_DescribeCluster_result_authorized_operations(cluster, &count) && count);
        rd_kafka_AdminOptions_destroy(with_operations);

        char broker[16];
        snprintf(broker, sizeof broker, "%d", node);
        rd_kafka_ConfigResource_t *resources[] = {rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, "a"),
                                                  rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, "none"),
                                                  rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_BROKER, broker)};
        CHECK(!rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, NULL));
        rd_kafka_DescribeConfigs(rk, resources, 3, NULL, queue);
        rd_kafka_ConfigResource_destroy_array(resources, 3);
        const rd_kafka_ConfigResource_t **of =
            rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(expect(RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT, 0)), &count);
        CHECK(count == 3 && !strcmp(rd_kafka_ConfigResource_name(of[0]), "a") && rd_kafka_ConfigResource_type(of[2]) == RD_KAFKA_RESOURCE_BROKER);
        CHECK(rd_kafka_ConfigResource_error(of[1]) == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART && *rd_kafka_ConfigResource_error_string(of[1]));
        const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(of[0], &count);
        int found = 0;
        for (size_t i = 0; i < count; i++)
                if (!strcmp(rd_kafka_ConfigEntry_name(entries[i]), "retention.ms")) {
                        size_t synonyms;
                        CHECK(!strcmp(rd_kafka_ConfigEntry_value(entries[i]), "123456") && !rd_kafka_ConfigEntry_is_default(entries[i]));
                        CHECK(rd_kafka_ConfigEntry_source(entries[i]) == RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG);
                        const rd_kafka_ConfigEntry_t **others = rd_kafka_ConfigEntry_synonyms(entries[i], &synonyms);
                        CHECK(synonyms && rd_kafka_ConfigEntry_is_synonym(others[0]) && !rd_kafka_ConfigEntry_is_synonym(entries[i]));
                        found = 1;
                }
        CHECK(found && !strcmp(rd_kafka_ConfigSource_name(RD_KAFKA_CONFIG_SOURCE_DEFAULT_CONFIG), "DEFAULT_CONFIG"));
        CHECK(rd_kafka_ConfigResource_configs(of[2], &count) && count);
}

/* The value of a setting of topic a. */
static const char *setting(rd_kafka_ResourceType_t type, const char *of, const char *name) {
        rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(type, of);
        rd_kafka_DescribeConfigs(rk, &resource, 1, NULL, queue);
        rd_kafka_ConfigResource_destroy(resource);
        size_t count;
        const rd_kafka_ConfigResource_t **described =
            rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(expect(RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT, 0)), &count);
        const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(described[0], &count);
        for (size_t i = 0; i < count; i++)
                if (!strcmp(rd_kafka_ConfigEntry_name(entries[i]), name))
                        return rd_kafka_ConfigEntry_value(entries[i]);
        CHECK(0, "%s has no %s", of, name);
        return NULL;
}

static void alterations(void) {
        size_t count;
        rd_kafka_ConfigResource_t *of[] = {rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, "a"),
                                           rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, "none")};
        CHECK(rd_kafka_ConfigResource_set_config(of[0], NULL, "1") == RD_KAFKA_RESP_ERR__INVALID_ARG);
        CHECK(!rd_kafka_ConfigResource_set_config(of[0], "segment.ms", "60000") && !rd_kafka_ConfigResource_set_config(of[0], "segment.ms", "70000"));
        rd_kafka_AdminOptions_t *only = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_ALTERCONFIGS);
        CHECK(!rd_kafka_AdminOptions_set_validate_only(only, 1, reason, sizeof reason));
        rd_kafka_AlterConfigs(rk, of, 1, only, queue);
        rd_kafka_AdminOptions_destroy(only);
        expect(RD_KAFKA_EVENT_ALTERCONFIGS_RESULT, 0);
        CHECK(!strcmp(setting(RD_KAFKA_RESOURCE_TOPIC, "a", "retention.ms"), "123456"));
        rd_kafka_AlterConfigs(rk, of, 2, NULL, queue);
        const rd_kafka_ConfigResource_t **done =
            rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(expect(RD_KAFKA_EVENT_ALTERCONFIGS_RESULT, 0)), &count);
        CHECK(count == 2 && !rd_kafka_ConfigResource_error(done[0]) && !strcmp(rd_kafka_event_name(event), "AlterConfigsResult"));
        CHECK(rd_kafka_ConfigResource_error(done[1]) == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART && *rd_kafka_ConfigResource_error_string(done[1]));
        CHECK(!strcmp(setting(RD_KAFKA_RESOURCE_TOPIC, "a", "segment.ms"), "70000"));
        CHECK(strcmp(setting(RD_KAFKA_RESOURCE_TOPIC, "a", "retention.ms"), "123456"), "what isn't named goes back to its default");

        rd_kafka_ConfigResource_t *group = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_GROUP, "g");
        rd_kafka_error_t *error = rd_kafka_ConfigResource_add_incremental_config(group, "x", RD_KAFKA_ALTER_CONFIG_OP_TYPE__CNT, "1");
        CHECK(rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__INVALID_ARG);
        rd_kafka_error_destroy(error);
        error = rd_kafka_ConfigResource_add_incremental_config(group, "x", RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, NULL);
        CHECK(rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__INVALID_ARG);
        rd_kafka_error_destroy(error);
        rd_kafka_IncrementalAlterConfigs(rk, &group, 1, NULL, queue);
        refused(RD_KAFKA_EVENT_INCREMENTALALTERCONFIGS_RESULT, "A config resource without changes");
        CHECK(!rd_kafka_ConfigResource_add_incremental_config(group, "consumer.session.timeout.ms", RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, "50000"));
        CHECK(!rd_kafka_ConfigResource_add_incremental_config(of[0], "segment.ms", RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE, NULL));
        CHECK(!rd_kafka_ConfigResource_add_incremental_config(of[0], "cleanup.policy", RD_KAFKA_ALTER_CONFIG_OP_TYPE_APPEND, "compact"));
        rd_kafka_ConfigResource_t *both[] = {of[0], group, of[0]};
        rd_kafka_IncrementalAlterConfigs(rk, both, 3, NULL, queue);
        refused(RD_KAFKA_EVENT_INCREMENTALALTERCONFIGS_RESULT, "Duplicate config resources not allowed");
        rd_kafka_IncrementalAlterConfigs(rk, both, 0, NULL, queue);
        refused(RD_KAFKA_EVENT_INCREMENTALALTERCONFIGS_RESULT, "No config resources specified");
        rd_kafka_IncrementalAlterConfigs(rk, both, 2, NULL, queue);
        rd_kafka_ConfigResource_destroy_array(of, 2);
        rd_kafka_ConfigResource_destroy(group);
        done = rd_kafka_IncrementalAlterConfigs_result_resources(
            rd_kafka_event_IncrementalAlterConfigs_result(expect(RD_KAFKA_EVENT_INCREMENTALALTERCONFIGS_RESULT, 0)), &count);
        CHECK(count == 2 && !rd_kafka_ConfigResource_error(done[0]) && !rd_kafka_ConfigResource_error(done[1]));
        CHECK(!strcmp(setting(RD_KAFKA_RESOURCE_TOPIC, "a", "cleanup.policy"), "delete,compact"));
        CHECK(strcmp(setting(RD_KAFKA_RESOURCE_TOPIC, "a", "segment.ms"), "70000"));
        CHECK(!strcmp(setting(RD_KAFKA_RESOURCE_GROUP, "g", "consumer.session.timeout.ms"), "50000"));

        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(2);
        rd_kafka_topic_partition_list_add(list, "a", 0);
        rd_kafka_topic_partition_list_add(list, "a", 77);
        rd_kafka_ElectLeaders_t *election = rd_kafka_ElectLeaders_new(RD_KAFKA_ELECTION_TYPE_PREFERRED, list);
        rd_kafka_topic_partition_list_destroy(list);
        rd_kafka_ElectLeaders(rk, election, NULL, queue);
        rd_kafka_ElectLeaders_destroy(election);
        const rd_kafka_topic_partition_result_t **elected =
            rd_kafka_ElectLeaders_result_partitions(rd_kafka_event_ElectLeaders_result(expect(RD_KAFKA_EVENT_ELECTLEADERS_RESULT, 0)), &count);
        CHECK(count == 2 && !strcmp(rd_kafka_topic_partition_result_partition(elected[0])->topic, "a"));
        CHECK(rd_kafka_error_code(rd_kafka_topic_partition_result_error(elected[0])) == RD_KAFKA_RESP_ERR_ELECTION_NOT_NEEDED);
        CHECK(rd_kafka_topic_partition_result_partition(elected[1])->partition == 77);
        CHECK(rd_kafka_error_code(rd_kafka_topic_partition_result_error(elected[1])) == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
        election = rd_kafka_ElectLeaders_new(RD_KAFKA_ELECTION_TYPE_UNCLEAN, NULL);
        rd_kafka_ElectLeaders(rk, election, NULL, queue);
        rd_kafka_ElectLeaders_destroy(election);
        rd_kafka_ElectLeaders_result_partitions(rd_kafka_event_ElectLeaders_result(expect(RD_KAFKA_EVENT_ELECTLEADERS_RESULT, 0)), &count);
        CHECK(!count);
}

/* Ten records in a[0]; a group of one member reads them. */
static void groups(void) {
        for (int i = 0; i < 10; i++)
                produce_text(rk, "a", "k", "v");
        CHECK(!rd_kafka_flush(rk, 60000));
        rd_kafka_t *member = handle(RD_KAFKA_CONSUMER, CONF("bootstrap.servers", "memory:admin", "group.id", "g", "auto.offset.reset", "earliest",
                                                            "client.id", "reader", "enable.auto.commit", "false"));
        rd_kafka_topic_partition_list_t *one = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(one, "a", 0)->offset = 4;
        CHECK(!rd_kafka_subscribe(member, one));
        rd_kafka_message_t *message = rd_kafka_consumer_poll(member, 60000);
        CHECK(message && !message->err);
        rd_kafka_message_destroy(message);
        CHECK(!rd_kafka_commit(member, one, 0));

        size_t count;
        const char *names[] = {"g", "nobody"};
        rd_kafka_DescribeConsumerGroups(rk, names, 2, NULL, queue);
        const rd_kafka_ConsumerGroupDescription_t **group = rd_kafka_DescribeConsumerGroups_result_groups(
            rd_kafka_event_DescribeConsumerGroups_result(expect(RD_KAFKA_EVENT_DESCRIBECONSUMERGROUPS_RESULT, 0)), &count);
        CHECK(count == 2 && !strcmp(rd_kafka_ConsumerGroupDescription_group_id(group[0]), "g") && !rd_kafka_ConsumerGroupDescription_error(group[0]));
        CHECK(rd_kafka_ConsumerGroupDescription_state(group[0]) == RD_KAFKA_CONSUMER_GROUP_STATE_STABLE);
        CHECK(rd_kafka_ConsumerGroupDescription_state(group[1]) == RD_KAFKA_CONSUMER_GROUP_STATE_DEAD && !rd_kafka_ConsumerGroupDescription_error(group[1]));
        CHECK(!strcmp(rd_kafka_ConsumerGroupDescription_partition_assignor(group[0]), "range"));
        CHECK(rd_kafka_ConsumerGroupDescription_type(group[0]) == RD_KAFKA_CONSUMER_GROUP_TYPE_CLASSIC);
        CHECK(rd_kafka_ConsumerGroupDescription_coordinator(group[0]) && !rd_kafka_ConsumerGroupDescription_is_simple_consumer_group(group[0]));
        CHECK(rd_kafka_ConsumerGroupDescription_member_count(group[0]) == 1 && !rd_kafka_ConsumerGroupDescription_member(group[0], 1));
        const rd_kafka_MemberDescription_t *reader = rd_kafka_ConsumerGroupDescription_member(group[0], 0);
        CHECK(!strcmp(rd_kafka_MemberDescription_client_id(reader), "reader") && *rd_kafka_MemberDescription_consumer_id(reader));
        CHECK(!rd_kafka_MemberDescription_group_instance_id(reader) && !rd_kafka_MemberDescription_target_assignment(reader));
        CHECK(rd_kafka_MemberAssignment_partitions(rd_kafka_MemberDescription_assignment(reader))->cnt == 3);
        rd_kafka_DescribeConsumerGroups(rk, NULL, 0, NULL, queue);
        refused(RD_KAFKA_EVENT_DESCRIBECONSUMERGROUPS_RESULT, "No groups to describe");

        /* Only empty groups are deleted and altered. */
        rd_kafka_DeleteGroup_t *gone[] = {rd_kafka_DeleteGroup_new("g"), rd_kafka_DeleteGroup_new("g")};
        rd_kafka_DeleteGroups(rk, gone, 2, NULL, queue);
        refused(RD_KAFKA_EVENT_DELETEGROUPS_RESULT, "Duplicate groups not allowed");
        rd_kafka_DeleteGroups(rk, gone, 1, NULL, queue);
        const rd_kafka_group_result_t **results =
            rd_kafka_DeleteGroups_result_groups(rd_kafka_event_DeleteGroups_result(expect(RD_KAFKA_EVENT_DELETEGROUPS_RESULT, 0)), &count);
        CHECK(count == 1 && rd_kafka_error_code(rd_kafka_group_result_error(results[0])) == RD_KAFKA_RESP_ERR_NON_EMPTY_GROUP);
        CHECK(!rd_kafka_group_result_partitions(results[0]));
        CHECK(!rd_kafka_consumer_close(member));
        rd_kafka_destroy(member);

        rd_kafka_consumer_group_state_t empty = RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY, stable = RD_KAFKA_CONSUMER_GROUP_STATE_STABLE;
        for (int i = 0; i < 2; i++) {
                rd_kafka_AdminOptions_t *in_state = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS);
                CHECK(!rd_kafka_AdminOptions_set_match_consumer_group_states(in_state, i ? &empty : &stable, 1));
                rd_kafka_ListConsumerGroups(rk, in_state, queue);
                rd_kafka_AdminOptions_destroy(in_state);
                const rd_kafka_ListConsumerGroups_result_t *result = rd_kafka_event_ListConsumerGroups_result(expect(RD_KAFKA_EVENT_LISTCONSUMERGROUPS_RESULT, 0));
                const rd_kafka_ConsumerGroupListing_t **listed = rd_kafka_ListConsumerGroups_result_valid(result, &count);
                CHECK(count == (size_t)i, "%zu", count);
                if (i)
                        CHECK(!strcmp(rd_kafka_ConsumerGroupListing_group_id(listed[0]), "g") && rd_kafka_ConsumerGroupListing_state(listed[0]) == empty &&
                              rd_kafka_ConsumerGroupListing_type(listed[0]) == RD_KAFKA_CONSUMER_GROUP_TYPE_CLASSIC);
                CHECK(!rd_kafka_ListConsumerGroups_result_errors(result, &count) && !count);
        }
        CHECK(!strcmp(rd_kafka_consumer_group_state_name(empty), "Empty") && rd_kafka_consumer_group_state_code("stable") == stable);

        rd_kafka_ListConsumerGroupOffsets_t *list = rd_kafka_ListConsumerGroupOffsets_new("g", NULL);
        for (int i = 0; i < 3; i++) { /* 4 is committed; 7 is set; then it is forgotten */
                if (i == 1) {
                        one->elems[0].offset = 7;
                        rd_kafka_AlterConsumerGroupOffsets_t *set = rd_kafka_AlterConsumerGroupOffsets_new("g", one);
                        rd_kafka_AlterConsumerGroupOffsets(rk, &set, 1, NULL, queue);
                        rd_kafka_AlterConsumerGroupOffsets_destroy(set);
                        results = rd_kafka_AlterConsumerGroupOffsets_result_groups(
                            rd_kafka_event_AlterConsumerGroupOffsets_result(expect(RD_KAFKA_EVENT_ALTERCONSUMERGROUPOFFSETS_RESULT, 0)), &count);
                        CHECK(count == 1 && !rd_kafka_group_result_error(results[0]) && !rd_kafka_group_result_partitions(results[0])->elems[0].err);
                } else if (i == 2) {
                        rd_kafka_DeleteConsumerGroupOffsets_t *forget = rd_kafka_DeleteConsumerGroupOffsets_new("g", one);
                        rd_kafka_DeleteConsumerGroupOffsets(rk, &forget, 1, NULL, queue);
                        rd_kafka_DeleteConsumerGroupOffsets_destroy(forget);
                        results = rd_kafka_DeleteConsumerGroupOffsets_result_groups(
                            rd_kafka_event_DeleteConsumerGroupOffsets_result(expect(RD_KAFKA_EVENT_DELETECONSUMERGROUPOFFSETS_RESULT, 0)), &count);
                        CHECK(count == 1 && !rd_kafka_group_result_error(results[0]) && !rd_kafka_group_result_partitions(results[0])->elems[0].err);
                }
                rd_kafka_ListConsumerGroupOffsets(rk, &list, 1, NULL, queue);
                results = rd_kafka_ListConsumerGroupOffsets_result_groups(
                    rd_kafka_event_ListConsumerGroupOffsets_result(expect(RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT, 0)), &count);
                CHECK(count == 1 && !strcmp(rd_kafka_group_result_name(results[0]), "g") && !rd_kafka_group_result_error(results[0]));
                const rd_kafka_topic_partition_list_t *offsets = rd_kafka_group_result_partitions(results[0]);
                CHECK(i == 2 ? offsets->cnt == 0 : offsets->cnt == 1 && offsets->elems[0].offset == (i ? 7 : 4), "%d: %d", i, offsets->cnt);
        }
        rd_kafka_ListConsumerGroupOffsets_t *two[] = {list, list};
        rd_kafka_ListConsumerGroupOffsets(rk, two, 2, NULL, queue);
        refused(RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT, "Exactly one ListConsumerGroupOffsets must be passed");
        rd_kafka_ListConsumerGroupOffsets_destroy(list);
        one->elems[0].offset = RD_KAFKA_OFFSET_INVALID;
        rd_kafka_AlterConsumerGroupOffsets_t *bad = rd_kafka_AlterConsumerGroupOffsets_new("g", one);
        rd_kafka_AlterConsumerGroupOffsets(rk, &bad, 1, NULL, queue);
        refused(RD_KAFKA_EVENT_ALTERCONSUMERGROUPOFFSETS_RESULT, "All topic-partition offsets must be >= 0");
        rd_kafka_AlterConsumerGroupOffsets_destroy(bad);

        rd_kafka_DeleteGroups(rk, gone, 1, NULL, queue);
        results = rd_kafka_DeleteGroups_result_groups(rd_kafka_event_DeleteGroups_result(expect(RD_KAFKA_EVENT_DELETEGROUPS_RESULT, 0)), &count);
        CHECK(count == 1 && !rd_kafka_group_result_error(results[0]), "%s", rd_kafka_error_string(rd_kafka_group_result_error(results[0])));
        rd_kafka_DeleteGroup_destroy_array(gone, 2);
        rd_kafka_topic_partition_list_destroy(one);
}

static void offsets(void) {
        size_t count;
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(3);
        rd_kafka_topic_partition_list_add(list, "a", 0)->offset = RD_KAFKA_OFFSET_SPEC_LATEST;
        rd_kafka_topic_partition_list_add(list, "a", 1)->offset = RD_KAFKA_OFFSET_SPEC_EARLIEST;
        rd_kafka_ListOffsets(rk, list, NULL, queue);
        const rd_kafka_ListOffsetsResultInfo_t **found =
            rd_kafka_ListOffsets_result_infos(rd_kafka_event_ListOffsets_result(expect(RD_KAFKA_EVENT_LISTOFFSETS_RESULT, 0)), &count);
        CHECK(count == 2 && rd_kafka_ListOffsetsResultInfo_topic_partition(found[0])->offset == 10);
        CHECK(rd_kafka_ListOffsetsResultInfo_topic_partition(found[1])->offset == 0 && rd_kafka_ListOffsetsResultInfo_timestamp(found[1]) == -1);
        list->cnt = 1;
        list->elems[0].offset = RD_KAFKA_OFFSET_SPEC_MAX_TIMESTAMP;
        rd_kafka_ListOffsets(rk, list, NULL, queue);
        found = rd_kafka_ListOffsets_result_infos(rd_kafka_event_ListOffsets_result(expect(RD_KAFKA_EVENT_LISTOFFSETS_RESULT, 0)), &count);
        CHECK(count == 1 && rd_kafka_ListOffsetsResultInfo_timestamp(found[0]) > 1000000000000);

        list->elems[0].offset = 6;
        rd_kafka_DeleteRecords_t *before = rd_kafka_DeleteRecords_new(list);
        rd_kafka_DeleteRecords(rk, &before, 1, NULL, queue);
        const rd_kafka_topic_partition_list_t *first =
            rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(expect(RD_KAFKA_EVENT_DELETERECORDS_RESULT, 0)));
        CHECK(first && first->cnt == 1 && !first->elems[0].err && first->elems[0].offset == 6);
        rd_kafka_DeleteRecords(rk, &before, 0, NULL, queue);
        refused(RD_KAFKA_EVENT_DELETERECORDS_RESULT, "Exactly one DeleteRecords must be passed");
        rd_kafka_DeleteRecords_destroy_array(&before, 1);
        int64_t low, high;
        CHECK(!rd_kafka_query_watermark_offsets(rk, "a", 0, &low, &high, 60000) && low == 6 && high == 10);
        rd_kafka_topic_partition_list_destroy(list);

        rd_kafka_DeleteTopic_t *gone[] = {rd_kafka_DeleteTopic_new("a"), rd_kafka_DeleteTopic_new("none")};
        rd_kafka_DeleteTopics(rk, gone, 2, NULL, queue);
        rd_kafka_DeleteTopic_destroy_array(gone, 2);
        const rd_kafka_topic_result_t **deleted =
            rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(expect(RD_KAFKA_EVENT_DELETETOPICS_RESULT, 0)), &count);
        CHECK(count == 2 && !rd_kafka_topic_result_error(deleted[0]));
        CHECK(rd_kafka_topic_result_error(deleted[1]) == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
}

int main(void) {
        rk = handle(RD_KAFKA_PRODUCER, CONF("bootstrap.servers", "memory:admin"));
        queue = rd_kafka_queue_new(rk);
        options();
        topics();
        descriptions();
        alterations();
        groups();
        offsets();

        /* An fd tells of results, and queues that are forwarded have them, too. */
        int ends[2];
        char byte;
        CHECK(!pipe(ends));
        rd_kafka_queue_t *main_queue = rd_kafka_queue_get_main(rk);
        rd_kafka_queue_forward(main_queue, queue);
        rd_kafka_queue_io_event_enable(queue, ends[1], "!", 1);
        rd_kafka_DescribeCluster(rk, NULL, main_queue);
        CHECK(read(ends[0], &byte, 1) == 1);
        expect(RD_KAFKA_EVENT_DESCRIBECLUSTER_RESULT, 0);
        rd_kafka_queue_io_event_enable(queue, -1, NULL, 0);
        rd_kafka_queue_forward(main_queue, NULL);
        rd_kafka_queue_destroy(main_queue);

        /* A result that nobody fetches, and one that comes after the handle's end, are freed. */
        rd_kafka_DescribeCluster(rk, NULL, queue);
        rd_kafka_ListConsumerGroups(rk, NULL, queue);
        rd_kafka_event_destroy(event);
        rd_kafka_queue_destroy(queue);
        rd_kafka_destroy(rk);
        CHECK(!rd_kafka_wait_destroyed(60000));

        rd_kafka_CreateTopics(NULL, NULL, 0, NULL, NULL);
        CHECK(!rd_kafka_event_CreateTopics_result(NULL) && !rd_kafka_topic_result_name(NULL) && !rd_kafka_DescribeCluster_result_nodes(NULL, NULL));
        rd_kafka_AdminOptions_destroy(NULL);
        rd_kafka_NewTopic_destroy_array(NULL, 3);
        return 0;
}
