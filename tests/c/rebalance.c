/* Two members of a group: the callback assigns and revokes; what one has committed the other goes on with. */
#include "check.h"

static int assigned, revoked;

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *partitions, void *opaque) {
        (void)opaque;
        if (err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
                assigned++;
                CHECK(!rd_kafka_assign(rk, partitions));
        } else {
                CHECK(err == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS);
                revoked++;
                CHECK(!rd_kafka_assign(rk, NULL));
        }
}

static rd_kafka_t *member(void) {
        rd_kafka_conf_t *conf = CONF("bootstrap.servers", "memory:rebalance?num.partitions=4", "group.id", "g", "auto.offset.reset",
                                     "earliest", "heartbeat.interval.ms", "100");
        rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
        rd_kafka_t *rk = handle(RD_KAFKA_CONSUMER, conf);
        rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(topics, "work", RD_KAFKA_PARTITION_UA);
        CHECK(!rd_kafka_subscribe(rk, topics));
        rd_kafka_topic_partition_list_destroy(topics);
        CHECK(!rd_kafka_poll_set_consumer(rk));
        return rk;
}

static int partitions_of(rd_kafka_t *rk) {
        rd_kafka_topic_partition_list_t *list;
        CHECK(!rd_kafka_assignment(rk, &list));
        int count = list->cnt;
        rd_kafka_topic_partition_list_destroy(list);
        return count;
}

int main(void) {
        rd_kafka_t *producer = handle(RD_KAFKA_PRODUCER, CONF("bootstrap.servers", "memory:rebalance?num.partitions=4"));
        rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, "work", NULL);
        for (int i = 0; i < 400; i++)
                CHECK(!rd_kafka_produce(topic, i % 4, RD_KAFKA_MSG_F_COPY, "x", 1, NULL, 0, NULL), "%s",
                      rd_kafka_err2str(rd_kafka_last_error()));
        CHECK(!rd_kafka_flush(producer, 60000));

        rd_kafka_t *first = member();
        int seen = 0;
        while (seen < 200) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(first, 60000);
                CHECK(message && !message->err);
                seen++;
                rd_kafka_message_destroy(message);
        }
        CHECK(assigned == 1 && partitions_of(first) == 4 && !strcmp(rd_kafka_rebalance_protocol(first), "EAGER"));
        char *id = rd_kafka_memberid(first);
        CHECK(id && *id);
        rd_kafka_mem_free(first, id);
        const struct rd_kafka_group_list *groups;
        CHECK(!rd_kafka_list_groups(first, "g", &groups, 60000));
        CHECK(groups->group_cnt == 1 && groups->groups[0].member_cnt == 1 && !strcmp(groups->groups[0].state, "Stable"));
        rd_kafka_group_list_destroy(groups);

        rd_kafka_t *second = member();
        for (int i = 0; i < 6000 && partitions_of(first) + 2 != 4; i++)
                for (int j = 0; j < 2; j++) {
                        rd_kafka_message_t *message = rd_kafka_consumer_poll(j ? first : second, 5);
                        seen += message && !message->err;
                        rd_kafka_message_destroy(message);
                }
        while (partitions_of(second) != 2) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(second, 10);
                seen += message && !message->err;
                rd_kafka_message_destroy(message);
        }
        CHECK(revoked >= 1 && assigned >= 3 && partitions_of(first) == 2);
        rd_kafka_t *members[] = {first, second};
        /* Until all have come, and then a while for what comes twice. */
        for (int idle = 0, turn = 0; idle < (seen < 400 ? 6000 : 40); turn ^= 1) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(members[turn], 10);
                idle = message ? 0 : idle + 1;
                seen += message && !message->err;
                rd_kafka_message_destroy(message);
        }
        CHECK(seen == 400, "%d messages", seen);
        CHECK(!rd_kafka_consumer_close(first));
        CHECK(rd_kafka_consumer_closed(first));
        rd_kafka_destroy(first);
        rd_kafka_destroy(second);
        rd_kafka_topic_destroy(topic);
        rd_kafka_destroy(producer);
        return 0;
}
