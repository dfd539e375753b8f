/* A full queue, purging, flushing that takes too long, destroying with messages on their way. */
#include "check.h"

static int purged, delivered;

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
        (void)rk, (void)opaque;
        if (message->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE) {
                CHECK(rd_kafka_message_status(message) == RD_KAFKA_MSG_STATUS_NOT_PERSISTED && rd_kafka_message_errstr(message));
                purged++;
        } else
                delivered += !message->err;
}

int main(void) {
        rd_kafka_conf_t *conf = CONF("bootstrap.servers", "memory:purge", "linger.ms", "10000", "queue.buffering.max.messages", "10");
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        rd_kafka_t *rk = handle(RD_KAFKA_PRODUCER, conf);
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, "t", NULL);
        for (int i = 0; i < 10; i++)
                CHECK(!rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, "v", 1, NULL, 0, NULL));
        CHECK(rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, "v", 1, NULL, 0, NULL) == -1);
        CHECK(rd_kafka_last_error() == RD_KAFKA_RESP_ERR__QUEUE_FULL);
        rd_kafka_message_t batch[2] = {{.payload = "b", .len = 1}, {.payload = "b", .len = 1}};
        CHECK(rd_kafka_produce_batch(topic, 0, RD_KAFKA_MSG_F_COPY, batch, 2) == 0 && batch[1].err == RD_KAFKA_RESP_ERR__QUEUE_FULL);
        CHECK(rd_kafka_outq_len(rk) == 10);
        CHECK(!rd_kafka_purge(rk, RD_KAFKA_PURGE_F_QUEUE));
        CHECK(rd_kafka_purge(rk, 0x1000) == RD_KAFKA_RESP_ERR__INVALID_ARG);
        for (int i = 0; i < 6000 && purged + delivered < 10; i++)
                rd_kafka_poll(rk, 10);
        CHECK(purged == 10 && !delivered && rd_kafka_outq_len(rk) == 0, "%d %d", purged, delivered);
        CHECK(!rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, "v", 1, NULL, 0, NULL));
        CHECK(!rd_kafka_flush(rk, 60000) && delivered == 1);
        CHECK(!rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, "v", 1, NULL, 0, NULL));
        rd_kafka_topic_destroy(topic);
        rd_kafka_destroy(rk);
        CHECK(!rd_kafka_wait_destroyed(60000));
        return 0;
}
