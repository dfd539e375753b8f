/* The public structs of the header against the layout that programs were compiled with (x86-64). */
#include "check.h"
#include <stddef.h>

int main(void) {
#if defined(__x86_64__)
        CHECK(sizeof(rd_kafka_message_t) == 72 && _Alignof(rd_kafka_message_t) == 8);
        CHECK(offsetof(rd_kafka_message_t, err) == 0 && sizeof(((rd_kafka_message_t *)0)->err) == 4);
        CHECK(offsetof(rd_kafka_message_t, rkt) == 8 && sizeof(((rd_kafka_message_t *)0)->rkt) == 8);
        CHECK(offsetof(rd_kafka_message_t, partition) == 16 && sizeof(((rd_kafka_message_t *)0)->partition) == 4);
        CHECK(offsetof(rd_kafka_message_t, payload) == 24 && sizeof(((rd_kafka_message_t *)0)->payload) == 8);
        CHECK(offsetof(rd_kafka_message_t, len) == 32 && sizeof(((rd_kafka_message_t *)0)->len) == 8);
        CHECK(offsetof(rd_kafka_message_t, key) == 40 && sizeof(((rd_kafka_message_t *)0)->key) == 8);
        CHECK(offsetof(rd_kafka_message_t, key_len) == 48 && sizeof(((rd_kafka_message_t *)0)->key_len) == 8);
        CHECK(offsetof(rd_kafka_message_t, offset) == 56 && sizeof(((rd_kafka_message_t *)0)->offset) == 8);
        CHECK(offsetof(rd_kafka_message_t, _private) == 64 && sizeof(((rd_kafka_message_t *)0)->_private) == 8);
        CHECK(sizeof(rd_kafka_topic_partition_t) == 64 && _Alignof(rd_kafka_topic_partition_t) == 8);
        CHECK(offsetof(rd_kafka_topic_partition_t, topic) == 0 && sizeof(((rd_kafka_topic_partition_t *)0)->topic) == 8);
        CHECK(offsetof(rd_kafka_topic_partition_t, partition) == 8 && sizeof(((rd_kafka_topic_partition_t *)0)->partition) == 4);
        CHECK(offsetof(rd_kafka_topic_partition_t, offset) == 16 && sizeof(((rd_kafka_topic_partition_t *)0)->offset) == 8);
        CHECK(offsetof(rd_kafka_topic_partition_t, metadata) == 24 && sizeof(((rd_kafka_topic_partition_t *)0)->metadata) == 8);
        CHECK(offsetof(rd_kafka_topic_partition_t, metadata_size) == 32 && sizeof(((rd_kafka_topic_partition_t *)0)->metadata_size) == 8);
        CHECK(offsetof(rd_kafka_topic_partition_t, opaque) == 40 && sizeof(((rd_kafka_topic_partition_t *)0)->opaque) == 8);
        CHECK(offsetof(rd_kafka_topic_partition_t, err) == 48 && sizeof(((rd_kafka_topic_partition_t *)0)->err) == 4);
        CHECK(offsetof(rd_kafka_topic_partition_t, _private) == 56 && sizeof(((rd_kafka_topic_partition_t *)0)->_private) == 8);
        CHECK(sizeof(rd_kafka_topic_partition_list_t) == 16 && _Alignof(rd_kafka_topic_partition_list_t) == 8);
        CHECK(offsetof(rd_kafka_topic_partition_list_t, cnt) == 0 && sizeof(((rd_kafka_topic_partition_list_t *)0)->cnt) == 4);
        CHECK(offsetof(rd_kafka_topic_partition_list_t, size) == 4 && sizeof(((rd_kafka_topic_partition_list_t *)0)->size) == 4);
        CHECK(offsetof(rd_kafka_topic_partition_list_t, elems) == 8 && sizeof(((rd_kafka_topic_partition_list_t *)0)->elems) == 8);
        CHECK(sizeof(rd_kafka_vu_t) == 72 && _Alignof(rd_kafka_vu_t) == 8);
        CHECK(offsetof(rd_kafka_vu_t, vtype) == 0 && sizeof(((rd_kafka_vu_t *)0)->vtype) == 4);
        CHECK(offsetof(rd_kafka_vu_t, u) == 8 && sizeof(((rd_kafka_vu_t *)0)->u) == 64);
        CHECK(sizeof(struct rd_kafka_err_desc) == 24 && _Alignof(struct rd_kafka_err_desc) == 8);
        CHECK(offsetof(struct rd_kafka_err_desc, code) == 0 && sizeof(((struct rd_kafka_err_desc *)0)->code) == 4);
        CHECK(offsetof(struct rd_kafka_err_desc, name) == 8 && sizeof(((struct rd_kafka_err_desc *)0)->name) == 8);
        CHECK(offsetof(struct rd_kafka_err_desc, desc) == 16 && sizeof(((struct rd_kafka_err_desc *)0)->desc) == 8);
        CHECK(sizeof(rd_kafka_metadata_broker_t) == 24 && _Alignof(rd_kafka_metadata_broker_t) == 8);
        CHECK(offsetof(rd_kafka_metadata_broker_t, id) == 0 && sizeof(((rd_kafka_metadata_broker_t *)0)->id) == 4);
        CHECK(offsetof(rd_kafka_metadata_broker_t, host) == 8 && sizeof(((rd_kafka_metadata_broker_t *)0)->host) == 8);
        CHECK(offsetof(rd_kafka_metadata_broker_t, port) == 16 && sizeof(((rd_kafka_metadata_broker_t *)0)->port) == 4);
        CHECK(sizeof(rd_kafka_metadata_partition_t) == 40 && _Alignof(rd_kafka_metadata_partition_t) == 8);
        CHECK(offsetof(rd_kafka_metadata_partition_t, id) == 0 && sizeof(((rd_kafka_metadata_partition_t *)0)->id) == 4);
        CHECK(offsetof(rd_kafka_metadata_partition_t, err) == 4 && sizeof(((rd_kafka_metadata_partition_t *)0)->err) == 4);
        CHECK(offsetof(rd_kafka_metadata_partition_t, leader) == 8 && sizeof(((rd_kafka_metadata_partition_t *)0)->leader) == 4);
        CHECK(offsetof(rd_kafka_metadata_partition_t, replica_cnt) == 12 && sizeof(((rd_kafka_metadata_partition_t *)0)->replica_cnt) == 4);
        CHECK(offsetof(rd_kafka_metadata_partition_t, replicas) == 16 && sizeof(((rd_kafka_metadata_partition_t *)0)->replicas) == 8);
        CHECK(offsetof(rd_kafka_metadata_partition_t, isr_cnt) == 24 && sizeof(((rd_kafka_metadata_partition_t *)0)->isr_cnt) == 4);
        CHECK(offsetof(rd_kafka_metadata_partition_t, isrs) == 32 && sizeof(((rd_kafka_metadata_partition_t *)0)->isrs) == 8);
        CHECK(sizeof(rd_kafka_metadata_topic_t) == 32 && _Alignof(rd_kafka_metadata_topic_t) == 8);
        CHECK(offsetof(rd_kafka_metadata_topic_t, topic) == 0 && sizeof(((rd_kafka_metadata_topic_t *)0)->topic) == 8);
        CHECK(offsetof(rd_kafka_metadata_topic_t, partition_cnt) == 8 && sizeof(((rd_kafka_metadata_topic_t *)0)->partition_cnt) == 4);
        CHECK(offsetof(rd_kafka_metadata_topic_t, partitions) == 16 && sizeof(((rd_kafka_metadata_topic_t *)0)->partitions) == 8);
        CHECK(offsetof(rd_kafka_metadata_topic_t, err) == 24 && sizeof(((rd_kafka_metadata_topic_t *)0)->err) == 4);
        CHECK(sizeof(rd_kafka_metadata_t) == 48 && _Alignof(rd_kafka_metadata_t) == 8);
        CHECK(offsetof(rd_kafka_metadata_t, broker_cnt) == 0 && sizeof(((rd_kafka_metadata_t *)0)->broker_cnt) == 4);
        CHECK(offsetof(rd_kafka_metadata_t, brokers) == 8 && sizeof(((rd_kafka_metadata_t *)0)->brokers) == 8);
        CHECK(offsetof(rd_kafka_metadata_t, topic_cnt) == 16 && sizeof(((rd_kafka_metadata_t *)0)->topic_cnt) == 4);
        CHECK(offsetof(rd_kafka_metadata_t, topics) == 24 && sizeof(((rd_kafka_metadata_t *)0)->topics) == 8);
        CHECK(offsetof(rd_kafka_metadata_t, orig_broker_id) == 32 && sizeof(((rd_kafka_metadata_t *)0)->orig_broker_id) == 4);
        CHECK(offsetof(rd_kafka_metadata_t, orig_broker_name) == 40 && sizeof(((rd_kafka_metadata_t *)0)->orig_broker_name) == 8);
        CHECK(sizeof(struct rd_kafka_group_member_info) == 56 && _Alignof(struct rd_kafka_group_member_info) == 8);
        CHECK(offsetof(struct rd_kafka_group_member_info, member_id) == 0 && sizeof(((struct rd_kafka_group_member_info *)0)->member_id) == 8);
        CHECK(offsetof(struct rd_kafka_group_member_info, client_id) == 8 && sizeof(((struct rd_kafka_group_member_info *)0)->client_id) == 8);
        CHECK(offsetof(struct rd_kafka_group_member_info, client_host) == 16 && sizeof(((struct rd_kafka_group_member_info *)0)->client_host) == 8);
        CHECK(offsetof(struct rd_kafka_group_member_info, member_metadata) == 24 && sizeof(((struct rd_kafka_group_member_info *)0)->member_metadata) == 8);
        CHECK(offsetof(struct rd_kafka_group_member_info, member_metadata_size) == 32 && sizeof(((struct rd_kafka_group_member_info *)0)->member_metadata_size) == 4);
        CHECK(offsetof(struct rd_kafka_group_member_info, member_assignment) == 40 && sizeof(((struct rd_kafka_group_member_info *)0)->member_assignment) == 8);
        CHECK(offsetof(struct rd_kafka_group_member_info, member_assignment_size) == 48 && sizeof(((struct rd_kafka_group_member_info *)0)->member_assignment_size) == 4);
        CHECK(sizeof(struct rd_kafka_group_info) == 80 && _Alignof(struct rd_kafka_group_info) == 8);
        CHECK(offsetof(struct rd_kafka_group_info, broker) == 0 && sizeof(((struct rd_kafka_group_info *)0)->broker) == 24);
        CHECK(offsetof(struct rd_kafka_group_info, group) == 24 && sizeof(((struct rd_kafka_group_info *)0)->group) == 8);
        CHECK(offsetof(struct rd_kafka_group_info, err) == 32 && sizeof(((struct rd_kafka_group_info *)0)->err) == 4);
        CHECK(offsetof(struct rd_kafka_group_info, state) == 40 && sizeof(((struct rd_kafka_group_info *)0)->state) == 8);
        CHECK(offsetof(struct rd_kafka_group_info, protocol_type) == 48 && sizeof(((struct rd_kafka_group_info *)0)->protocol_type) == 8);
        CHECK(offsetof(struct rd_kafka_group_info, protocol) == 56 && sizeof(((struct rd_kafka_group_info *)0)->protocol) == 8);
        CHECK(offsetof(struct rd_kafka_group_info, members) == 64 && sizeof(((struct rd_kafka_group_info *)0)->members) == 8);
        CHECK(offsetof(struct rd_kafka_group_info, member_cnt) == 72 && sizeof(((struct rd_kafka_group_info *)0)->member_cnt) == 4);
        CHECK(sizeof(struct rd_kafka_group_list) == 16 && _Alignof(struct rd_kafka_group_list) == 8);
        CHECK(offsetof(struct rd_kafka_group_list, groups) == 0 && sizeof(((struct rd_kafka_group_list *)0)->groups) == 8);
        CHECK(offsetof(struct rd_kafka_group_list, group_cnt) == 8 && sizeof(((struct rd_kafka_group_list *)0)->group_cnt) == 4);
#endif
        CHECK(rd_kafka_version() == RD_KAFKA_VERSION);
        return 0;
}
