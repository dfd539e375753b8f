/* Every part of a message there and back, in the broker that the argument names; delivery reports, batches, sizes. */
#include "check.h"

static int delivered, freed;

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
        CHECK(!strcmp(opaque, "opaque") && rk);
        CHECK(!message->err, "%s", rd_kafka_message_errstr(message));
        CHECK(message->offset >= 0 && rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_PERSISTED);
        CHECK(!strcmp(rd_kafka_topic_name(message->rkt), "parts"));
        CHECK(rd_kafka_message_latency(message) >= 0 && rd_kafka_message_broker_id(message) >= 0);
        if (message->_private == &freed) { /* neither COPY nor FREE: the pointer comes back */
                CHECK(!memcmp(message->payload, "mine", 4));
                free(message->payload);
                freed++;
        }
        delivered++;
}

int main(int argc, char **argv) {
        const char *servers = argc > 1 ? argv[1] : "memory:parts";
        rd_kafka_conf_t *conf = CONF("bootstrap.servers", servers);
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        rd_kafka_conf_set_opaque(conf, "opaque");
        rd_kafka_t *producer = handle(RD_KAFKA_PRODUCER, conf);
        CHECK(!strcmp(rd_kafka_opaque(producer), "opaque"));
        rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, "parts", NULL);
        CHECK(topic && rd_kafka_topic_new(producer, "parts", NULL) == topic);
        rd_kafka_topic_destroy(topic);

        rd_kafka_headers_t *headers = rd_kafka_headers_new(2);
        rd_kafka_header_add(headers, "a", -1, "1", -1);
        rd_kafka_header_add(headers, "null", -1, NULL, 0);
        CHECK(!rd_kafka_producev(producer, RD_KAFKA_V_RKT(topic), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_KEY("key", 3),
                                 RD_KAFKA_V_VALUE("value", 5), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                 RD_KAFKA_V_TIMESTAMP(1234567890123), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END));
        CHECK(!rd_kafka_producev(producer, RD_KAFKA_V_TOPIC("parts"), RD_KAFKA_V_PARTITION(0),
                                 RD_KAFKA_V_HEADER("h", "v", 1), RD_KAFKA_V_VALUE(NULL, 0), RD_KAFKA_V_END));
        char *mine = malloc(4);
        memcpy(mine, "mine", 4);
        CHECK(rd_kafka_produce(topic, 0, 0, mine, 4, NULL, 0, &freed) == 0);
        char *theirs = malloc(6);
        memcpy(theirs, "theirs", 6);
        CHECK(rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_FREE, theirs, 6, "", 0, NULL) == 0);

        rd_kafka_message_t batch[3] = {{.payload = "b0", .len = 2}, {.payload = "b1", .len = 2, .partition = 7777}, {.payload = "b2", .len = 2}};
        CHECK(rd_kafka_produce_batch(topic, 0, RD_KAFKA_MSG_F_COPY, batch, 3) == 3);
        CHECK(rd_kafka_outq_len(producer) > 0);
        CHECK(rd_kafka_flush(producer, 60000) == RD_KAFKA_RESP_ERR_NO_ERROR);
        CHECK(delivered == 7 && freed == 1, "%d %d", delivered, freed);
        CHECK(rd_kafka_outq_len(producer) == 0);

        /* What can't be produced says so at once. */
        static char large[2000000];
        CHECK(rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, large, sizeof large, NULL, 0, NULL) == -1);
        CHECK(rd_kafka_last_error() == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
        CHECK(rd_kafka_produce(topic, 1000, RD_KAFKA_MSG_F_COPY, "x", 1, NULL, 0, NULL) == -1);
        CHECK(rd_kafka_last_error() == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION);
        CHECK(rd_kafka_producev(producer, RD_KAFKA_V_VALUE("x", 1), RD_KAFKA_V_END) == RD_KAFKA_RESP_ERR__INVALID_ARG);
        CHECK(rd_kafka_producev(producer, RD_KAFKA_V_TOPIC("parts"), 99, RD_KAFKA_V_END) == RD_KAFKA_RESP_ERR__INVALID_ARG);

        rd_kafka_t *consumer = handle(RD_KAFKA_CONSUMER, CONF("bootstrap.servers", servers, "group.id", "g",
                                                              "enable.partition.eof", "true"));
        assign_one(consumer, "parts", RD_KAFKA_OFFSET_BEGINNING);
        const char *values[] = {"value", NULL, "mine", "theirs", "b0", "b1", "b2"};
        rd_kafka_message_t *kept = NULL;
        for (int i = 0; i < 7; i++) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 60000);
                CHECK(message && !message->err && message->offset == i && message->partition == 0);
                CHECK(!strcmp(rd_kafka_topic_name(message->rkt), "parts"));
                if (values[i])
                        CHECK(message->len == strlen(values[i]) && !memcmp(message->payload, values[i], message->len));
                else
                        CHECK(!message->payload && !message->len);
                rd_kafka_headers_t *found;
                rd_kafka_resp_err_t err = rd_kafka_message_headers(message, &found);
                if (i == 0) {
                        const char *name;
                        const void *value;
                        size_t size;
                        rd_kafka_timestamp_type_t type;
                        CHECK(message->key_len == 3 && !memcmp(message->key, "key", 3));
                        CHECK(rd_kafka_message_timestamp(message, &type) == 1234567890123 && type == RD_KAFKA_TIMESTAMP_CREATE_TIME);
                        CHECK(!err && rd_kafka_header_cnt(found) == 2);
                        CHECK(!rd_kafka_header_get_all(found, 1, &name, &value, &size) && !strcmp(name, "null") && !value);
                        CHECK(!rd_kafka_message_detach_headers(message, &found));
                        CHECK(rd_kafka_message_headers(message, &found) == RD_KAFKA_RESP_ERR__NOENT);
                        rd_kafka_headers_destroy(found);
                        kept = message; /* outlives the others */
                        continue;
                }
                CHECK(err == (i == 1 ? RD_KAFKA_RESP_ERR_NO_ERROR : RD_KAFKA_RESP_ERR__NOENT));
                CHECK(i == 3 ? message->key && !message->key_len : !message->key);
                rd_kafka_message_destroy(message);
        }
        rd_kafka_message_t *end = rd_kafka_consumer_poll(consumer, 60000);
        CHECK(end && end->err == RD_KAFKA_RESP_ERR__PARTITION_EOF && end->offset == 7 && rd_kafka_message_errstr(end));
        rd_kafka_message_destroy(end);
        CHECK(!memcmp(kept->payload, "value", 5));
        rd_kafka_message_destroy(kept);

        /* Positions, commits, seeks. */
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_t *one = rd_kafka_topic_partition_list_add(list, "parts", 0);
        CHECK(!rd_kafka_position(consumer, list) && one->offset == 7);
        one->offset = 4;
        one->metadata = strdup("note");
        one->metadata_size = 4;
        rd_kafka_resp_err_t err = rd_kafka_commit(consumer, list, 0);
        CHECK(!err, "%s", rd_kafka_err2str(err));
        one->offset = 0;
        CHECK(!rd_kafka_committed(consumer, list, 60000) && one->offset == 4);
        CHECK(one->metadata_size == 4 && !memcmp(one->metadata, "note", 4));
        one->offset = 2;
        rd_kafka_error_t *error = rd_kafka_seek_partitions(consumer, list, 60000);
        CHECK(!error && !one->err);
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 60000);
        CHECK(message && message->offset == 2);
        rd_kafka_message_destroy(message);
        one->offset = 1234567890123;
        CHECK(!rd_kafka_offsets_for_times(consumer, list, 60000) && one->offset == 0, "%d", (int)one->offset);
        int64_t low, high;
        CHECK(!rd_kafka_query_watermark_offsets(consumer, "parts", 0, &low, &high, 60000) && low == 0 && high == 7);
        CHECK(!rd_kafka_get_watermark_offsets(consumer, "parts", 0, &low, &high) && high == 7);
        /* What isn't there is told at once. */
        CHECK(rd_kafka_query_watermark_offsets(consumer, "parts", 99, &low, &high, -1) == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION);
        CHECK(rd_kafka_query_watermark_offsets(consumer, "missing", 0, &low, &high, -1) == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION);
        one->partition = 99;
        one->offset = 5;
        CHECK(rd_kafka_offsets_for_times(consumer, list, -1) == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION);
        CHECK(one->err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION && one->offset == 5);
        rd_kafka_topic_partition_list_destroy(list);

        const struct rd_kafka_metadata *metadata;
        CHECK(!rd_kafka_metadata(consumer, 1, NULL, &metadata, 60000));
        CHECK(metadata->broker_cnt == 1 && metadata->topic_cnt >= 1 && metadata->topics[0].partition_cnt >= 1);
        CHECK(metadata->topics[0].partitions[0].replica_cnt == 1 && metadata->topics[0].partitions[0].replicas[0] == metadata->brokers[0].id);
        rd_kafka_metadata_destroy(metadata);
        char *cluster = rd_kafka_clusterid(consumer, 60000);
        CHECK(cluster && rd_kafka_controllerid(consumer, 60000) >= 0);
        rd_kafka_mem_free(consumer, cluster);

        CHECK(!rd_kafka_consumer_close(consumer));
        rd_kafka_destroy(consumer);
        rd_kafka_topic_destroy(topic);
        rd_kafka_destroy(producer);
        CHECK(rd_kafka_wait_destroyed(60000) == 0);
        return 0;
}
