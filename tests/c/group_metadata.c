/* A consumer's place in its group, and the bytes in which bindings hand it on: librdkafka's own. */
#include "check.h"

/* What librdkafka 2.0.2 wrote for group grp, generation 7, member mem, and instance inst or none (little-endian). */
static const char with_instance[] = "CGMDv2:\7\0\0\0grp\0mem\0\0inst", without[] = "CGMDv2:\7\0\0\0grp\0mem\0\1";

static void same(rd_kafka_consumer_group_metadata_t *metadata, const char *bytes, size_t size) {
        void *buffer;
        size_t written;
        CHECK(metadata && !rd_kafka_consumer_group_metadata_write(metadata, &buffer, &written));
        CHECK(written == size && !memcmp(buffer, bytes, size));
        rd_kafka_mem_free(NULL, buffer);
        rd_kafka_consumer_group_metadata_destroy(metadata);
}

static void refused(const char *bytes, size_t size, const char *why) {
        rd_kafka_consumer_group_metadata_t *metadata;
        rd_kafka_error_t *error = rd_kafka_consumer_group_metadata_read(&metadata, bytes, size);
        CHECK(error && rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__BAD_MSG);
        CHECK(strstr(rd_kafka_error_string(error), why), "%s", rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
}

int main(void) {
        rd_kafka_consumer_group_metadata_t *metadata;
        same(rd_kafka_consumer_group_metadata_new_with_genid("grp", 7, "mem", "inst"), with_instance, sizeof with_instance);
        same(rd_kafka_consumer_group_metadata_new_with_genid("grp", 7, "mem", NULL), without, sizeof without - 1);
        same(rd_kafka_consumer_group_metadata_new("grp"), "CGMDv2:\xff\xff\xff\xffgrp\0\0\1", 17);
        CHECK(!rd_kafka_consumer_group_metadata_new(NULL));
        CHECK(!rd_kafka_consumer_group_metadata_read(&metadata, with_instance, sizeof with_instance));
        CHECK(rd_kafka_consumer_group_metadata_generation_id(metadata) == 7);
        CHECK(!strcmp(rd_kafka_consumer_group_metadata_member_id(metadata), "mem"));
        CHECK(!strcmp(rd_kafka_consumer_group_metadata_group_instance_id(metadata), "inst"));
        same(metadata, with_instance, sizeof with_instance);
        CHECK(!rd_kafka_consumer_group_metadata_read(&metadata, without, sizeof without - 1));
        CHECK(!rd_kafka_consumer_group_metadata_group_instance_id(metadata));
        same(metadata, without, sizeof without - 1);
        for (size_t size = 14; size < sizeof with_instance; size++)
                refused(with_instance, size, "bad length");
        refused(with_instance, 13, "too short");
        refused("CGMDv2:\7\0\0\0grp\0mem\0\1a", sizeof without + 1, "bad length");
        refused("some bytes that are something else", 30, "not a serialized");

        /* A member's. */
        rd_kafka_t *rk = handle(RD_KAFKA_CONSUMER, CONF("bootstrap.servers", "memory:group_metadata", "group.id", "g"));
        rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(topics, "t", RD_KAFKA_PARTITION_UA);
        CHECK(!rd_kafka_subscribe(rk, topics));
        rd_kafka_topic_partition_list_destroy(topics);
        int32_t generation = -1;
        for (int i = 0; i < 6000 && generation < 1; i++) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 10);
                if (message)
                        rd_kafka_message_destroy(message);
                metadata = rd_kafka_consumer_group_metadata(rk);
                generation = rd_kafka_consumer_group_metadata_generation_id(metadata);
                if (generation > 0)
                        CHECK(*rd_kafka_consumer_group_metadata_member_id(metadata) &&
                              !strcmp(rd_kafka_consumer_group_metadata_group_id(metadata), "g"));
                rd_kafka_consumer_group_metadata_destroy(metadata);
        }
        CHECK(generation == 1, "%d", generation);
        rd_kafka_destroy(rk);
        rk = handle(RD_KAFKA_CONSUMER, CONF("bootstrap.servers", "memory:group_metadata"));
        CHECK(!rd_kafka_consumer_group_metadata(rk));
        rd_kafka_destroy(rk);
        return 0;
}
