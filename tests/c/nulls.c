/* Null pointers and things given back twice: an error or nothing, never a crash; and what comes with a later version says so. */
#include "check.h"

int main(void) {
        rd_kafka_destroy(NULL);
        rd_kafka_conf_destroy(NULL);
        rd_kafka_topic_conf_destroy(NULL);
        rd_kafka_topic_destroy(NULL);
        rd_kafka_message_destroy(NULL);
        rd_kafka_event_destroy(NULL);
        rd_kafka_queue_destroy(NULL);
        rd_kafka_error_destroy(NULL);
        rd_kafka_headers_destroy(NULL);
        rd_kafka_topic_partition_list_destroy(NULL);
        rd_kafka_metadata_destroy(NULL);
        rd_kafka_group_list_destroy(NULL);
        CHECK(rd_kafka_poll(NULL, 0) == 0 && !rd_kafka_consumer_poll(NULL, 0) && !rd_kafka_queue_poll(NULL, 0));
        CHECK(rd_kafka_produce(NULL, 0, 0, "x", 1, NULL, 0, NULL) == -1);
        CHECK(rd_kafka_producev(NULL, RD_KAFKA_V_TOPIC("t"), RD_KAFKA_V_END));
        CHECK(rd_kafka_flush(NULL, 0) && rd_kafka_purge(NULL, 1) && rd_kafka_subscribe(NULL, NULL) && rd_kafka_assign(NULL, NULL));
        CHECK(rd_kafka_commit(NULL, NULL, 0) && rd_kafka_position(NULL, NULL) && rd_kafka_consumer_close(NULL));
        CHECK(rd_kafka_metadata(NULL, 1, NULL, NULL, 0) && !rd_kafka_topic_new(NULL, "t", NULL) && !rd_kafka_queue_new(NULL));
        CHECK(!rd_kafka_name(NULL) && rd_kafka_outq_len(NULL) == 0 && !rd_kafka_memberid(NULL) && !rd_kafka_clusterid(NULL, 0));
        CHECK(!rd_kafka_topic_name(NULL) && !rd_kafka_error_code(NULL) && !rd_kafka_message_errstr(NULL));
        CHECK(rd_kafka_consume_start(NULL, 0, 0) == -1 && !rd_kafka_consume_queue(NULL, 0) && rd_kafka_offset_store(NULL, 0, 0));

        rd_kafka_t *rk = handle(RD_KAFKA_PRODUCER, CONF("bootstrap.servers", "memory:nulls"));
        CHECK(!rd_kafka_topic_new(rk, NULL, NULL) && !rd_kafka_topic_new(rk, "", NULL));
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, "t", NULL);
        rd_kafka_topic_destroy(topic);
        rd_kafka_topic_destroy(topic);
        CHECK(!rd_kafka_queue_get_consumer(rk) && !rd_kafka_queue_get_background(rk));
        rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 0);
        CHECK(message && message->err);
        rd_kafka_message_destroy(message);
        rd_kafka_error_t *error = rd_kafka_init_transactions(rk, 0);
        CHECK(rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE && strstr(rd_kafka_error_string(error), "ransactions"));
        CHECK(!rd_kafka_error_is_retriable(error) && !rd_kafka_error_txn_requires_abort(error));
        rd_kafka_error_destroy(error);
        rd_kafka_destroy(rk);

        rk = handle(RD_KAFKA_PRODUCER, NULL); /* no address at all */
        CHECK(rd_kafka_poll(rk, 0) == 0 && rd_kafka_fatal_error(rk, NULL, 0) == RD_KAFKA_RESP_ERR_NO_ERROR);
        CHECK(rd_kafka_producev(rk, RD_KAFKA_V_TOPIC("t"), RD_KAFKA_V_VALUE("v", 1), RD_KAFKA_V_END) == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN);
        rd_kafka_destroy(rk);
        CHECK(!rd_kafka_wait_destroyed(1000));
        return 0;
}
