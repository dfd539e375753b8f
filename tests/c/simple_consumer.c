/* The consumer of single partitions: start, consume in four ways, stored offsets, seek, stop. */
#include "check.h"

static int called;

static void on_message(rd_kafka_message_t *message, void *opaque) {
        CHECK(opaque == &called && !message->err);
        called++;
}

static void stop_at_three(rd_kafka_message_t *message, void *opaque) {
        (void)message;
        if (++called == 3)
                rd_kafka_yield(opaque);
}

int main(void) {
        rd_kafka_t *producer = handle(RD_KAFKA_PRODUCER, CONF("bootstrap.servers", "memory:simple"));
        for (int i = 0; i < 100; i++)
                produce_text(producer, "t", NULL, "v");
        CHECK(!rd_kafka_flush(producer, 60000));
        rd_kafka_t *rk = handle(RD_KAFKA_CONSUMER, CONF("bootstrap.servers", "memory:simple", "group.id", "g", "enable.auto.offset.store", "false",
                                                      "consume.callback.max.messages", "30"));
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, "t", NULL);

        CHECK(!rd_kafka_consume_start(topic, 0, RD_KAFKA_OFFSET_BEGINNING));
        rd_kafka_message_t *message = rd_kafka_consume(topic, 0, 60000), *batch[20];
        CHECK(message && message->offset == 0 && message->rkt == topic);
        rd_kafka_message_destroy(message);
        CHECK(rd_kafka_consume_batch(topic, 0, 5000, batch, 20) == 20);
        for (int i = 0; i < 20; i++) {
                CHECK(batch[i]->offset == 1 + i);
                rd_kafka_message_destroy(batch[i]);
        }
        for (int left = 79; left; left -= called) {
                called = 0;
                int count = rd_kafka_consume_callback(topic, 0, 5000, on_message, &called);
                CHECK(count == called && count == (left < 30 ? left : 30), "%d of %d", count, left);
        }
        CHECK(!rd_kafka_consume(topic, 0, 0) && rd_kafka_last_error() == RD_KAFKA_RESP_ERR__TIMED_OUT);
        CHECK(!rd_kafka_seek(topic, 0, 50, 60000));
        message = rd_kafka_consume(topic, 0, 60000);
        CHECK(message && message->offset == 50);
        rd_kafka_message_destroy(message);
        rd_kafka_resp_err_t err = rd_kafka_offset_store(topic, 0, 49);
        CHECK(!err, "%s", rd_kafka_err2str(err));
        CHECK(!rd_kafka_commit(rk, NULL, 0));
        CHECK(!rd_kafka_consume_stop(topic, 0));

        rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
        CHECK(!rd_kafka_consume_start_queue(topic, 0, RD_KAFKA_OFFSET_TAIL(10), queue));
        message = rd_kafka_consume_queue(queue, 60000);
        CHECK(message && message->offset == 90);
        rd_kafka_message_destroy(message);
        called = 0;
        CHECK(rd_kafka_consume_callback_queue(queue, 1000, stop_at_three, rk) == 3);
        CHECK(rd_kafka_consume_batch_queue(queue, 50, batch, 20) == 6);
        for (int i = 0; i < 6; i++)
                rd_kafka_message_destroy(batch[i]);
        CHECK(!rd_kafka_consume_stop(topic, 0));
        CHECK(!rd_kafka_consume_start_queue(topic, 0, RD_KAFKA_OFFSET_STORED, queue));
        message = rd_kafka_consume_queue(queue, 60000);
        CHECK(message && message->offset == 50);
        rd_kafka_message_destroy(message);
        CHECK(!rd_kafka_consume_stop(topic, 0));
        CHECK(rd_kafka_consume_start(topic, -1, 0) == -1);
        rd_kafka_queue_destroy(queue);
        rd_kafka_topic_destroy(topic);
        rd_kafka_destroy(rk);
        rd_kafka_destroy(producer);
        CHECK(!rd_kafka_wait_destroyed(2000));
        return 0;
}
