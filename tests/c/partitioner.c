/* An application's partitioner, and those that come with the library. */
#include "check.h"

static int asked;

static int32_t last(const rd_kafka_topic_t *topic, const void *key, size_t keylen, int32_t count, void *topic_opaque, void *opaque) {
        CHECK(!strcmp(rd_kafka_topic_name(topic), "t") && keylen == 1 && *(const char *)key == 'k');
        CHECK(!strcmp(topic_opaque, "topic") && opaque == &asked && rd_kafka_topic_opaque(topic) == topic_opaque);
        CHECK(rd_kafka_topic_partition_available(topic, count - 1));
        asked++;
        return count - 1;
}

static void on_delivery(rd_kafka_t *rk, void *payload, size_t len, rd_kafka_resp_err_t err, void *opaque, void *msg_opaque) {
        (void)rk, (void)opaque;
        CHECK(!err && len == 1 && payload && msg_opaque == &asked);
}

int main(void) {
        rd_kafka_conf_t *conf = CONF("bootstrap.servers", "memory:partitioner?num.partitions=5");
        rd_kafka_conf_set_dr_cb(conf, on_delivery);
        rd_kafka_t *rk = handle(RD_KAFKA_PRODUCER, conf);
        rd_kafka_topic_conf_t *topic_conf = rd_kafka_topic_conf_new();
        rd_kafka_topic_conf_set_opaque(topic_conf, "topic");
        rd_kafka_topic_conf_set_partitioner_cb(topic_conf, last);
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, "t", topic_conf);
        for (int i = 0; i < 50; i++)
                CHECK(!rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, "v", 1, "k", 1, &asked));
        CHECK(!rd_kafka_flush(rk, 60000) && asked == 50);
        int64_t low, high;
        CHECK(!rd_kafka_query_watermark_offsets(rk, "t", 4, &low, &high, 60000) && high == 50);

        /* Values of Kafka's and librdkafka's own hash functions. */
        CHECK(rd_kafka_msg_partitioner_murmur2(topic, "kafka", 5, 1000, NULL, NULL) == (int)(0xd067cf64 & 0x7fffffff) % 1000);
        CHECK(rd_kafka_msg_partitioner_consistent(topic, "this is another string with more length!", 40, 1000, NULL, NULL) >= 0);
        CHECK(rd_kafka_msg_partitioner_consistent(topic, "123456789", 9, 1 << 30, NULL, NULL) == (int)(0xcbf43926u % (1u << 30)));
        int32_t one = rd_kafka_msg_partitioner_fnv1a_random(topic, "x", 1, 7, NULL, NULL);
        CHECK(one == rd_kafka_msg_partitioner_fnv1a(topic, "x", 1, 7, NULL, NULL));
        for (int i = 0; i < 100; i++) {
                int32_t any = rd_kafka_msg_partitioner_random(topic, NULL, 0, 3, NULL, NULL);
                CHECK(any >= 0 && any < 3);
                any = rd_kafka_msg_partitioner_consistent_random(topic, NULL, 0, 3, NULL, NULL);
                CHECK(any >= 0 && any < 3);
        }
        rd_kafka_topic_destroy(topic);
        rd_kafka_destroy(rk);
        return 0;
}
