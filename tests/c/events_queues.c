/* Events polled from queues instead of callbacks; forwarding; an fd and a function that say when something comes. */
#include "check.h"
#include <unistd.h>

static int background, rung;

static void on_event(rd_kafka_t *rk, rd_kafka_event_t *event, void *opaque) {
        (void)rk, (void)opaque;
        background++;
        rd_kafka_event_destroy(event);
}

static void ring(rd_kafka_t *rk, void *opaque) {
        CHECK(rk && opaque == &rung);
        rung++;
}

int main(void) {
        rd_kafka_conf_t *conf = CONF("bootstrap.servers", "memory:events", "statistics.interval.ms", "20");
        rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_STATS | RD_KAFKA_EVENT_ERROR);
        rd_kafka_t *producer = handle(RD_KAFKA_PRODUCER, conf);
        rd_kafka_queue_t *queue = rd_kafka_queue_get_main(producer);
        int ends[2];
        CHECK(!pipe(ends));
        rd_kafka_queue_io_event_enable(queue, ends[1], "!", 1);
        for (int i = 0; i < 10; i++)
                produce_text(producer, "t", "k", "v");
        int reports = 0, statistics = 0;
        while (reports < 10 || !statistics) {
                rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 60000);
                CHECK(event, "no event");
                if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
                        size_t count = rd_kafka_event_message_count(event);
                        const rd_kafka_message_t *first = rd_kafka_event_message_next(event), *rest[16];
                        CHECK(first && !first->err && first->len == 1);
                        CHECK(rd_kafka_event_message_array(event, rest, 16) == count - 1);
                        CHECK(!rd_kafka_event_message_next(event));
                        reports += (int)count;
                } else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_STATS) {
                        CHECK(strstr(rd_kafka_event_stats(event), "\"name\""));
                        statistics++;
                }
                CHECK(*rd_kafka_event_name(event));
                rd_kafka_event_destroy(event);
        }
        char byte;
        CHECK(read(ends[0], &byte, 1) == 1 && byte == '!');
        rd_kafka_queue_io_event_enable(queue, -1, NULL, 0);
        rd_kafka_queue_destroy(queue);
        CHECK(!rd_kafka_flush(producer, 60000));

        conf = CONF("bootstrap.servers", "memory:events", "group.id", "g", "auto.offset.reset", "earliest", "enable.partition.eof", "true",
                    "enable.auto.commit", "false");
        rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_FETCH | RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT);
        rd_kafka_conf_set_background_event_cb(conf, on_event);
        rd_kafka_t *consumer = handle(RD_KAFKA_CONSUMER, conf);
        rd_kafka_queue_t *own = rd_kafka_queue_new(consumer), *from = rd_kafka_queue_get_consumer(consumer);
        rd_kafka_queue_forward(from, own);
        rd_kafka_queue_cb_event_enable(own, ring, &rung);
        rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(topics, "t", RD_KAFKA_PARTITION_UA);
        CHECK(!rd_kafka_subscribe(consumer, topics));
        int messages = 0, ends_seen = 0, rebalances = 0, commits = 0;
        while (messages < 10 || !ends_seen || !commits) {
                rd_kafka_event_t *event = rd_kafka_queue_poll(own, 60000);
                CHECK(event, "no event: %d %d %d", messages, ends_seen, rebalances);
                switch (rd_kafka_event_type(event)) {
                case RD_KAFKA_EVENT_REBALANCE:
                        CHECK(rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS);
                        CHECK(!rd_kafka_assign(consumer, rd_kafka_event_topic_partition_list(event)));
                        rebalances++;
                        break;
                case RD_KAFKA_EVENT_FETCH: {
                        const rd_kafka_message_t *message = rd_kafka_event_message_next(event);
                        CHECK(message && message->offset == messages && !rd_kafka_event_message_next(event));
                        if (++messages == 10)
                                CHECK(!rd_kafka_commit_message(consumer, message, 1));
                        break;
                }
                case RD_KAFKA_EVENT_ERROR: {
                        CHECK(rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__PARTITION_EOF);
                        rd_kafka_topic_partition_t *at = rd_kafka_event_topic_partition(event);
                        CHECK(at && !strcmp(at->topic, "t") && at->offset == 10);
                        rd_kafka_topic_partition_destroy(at);
                        ends_seen++;
                        break;
                }
                case RD_KAFKA_EVENT_OFFSET_COMMIT:
                        CHECK(!rd_kafka_event_error(event) && rd_kafka_event_topic_partition_list(event)->elems[0].offset == 10);
                        commits++;
                        break;
                }
                rd_kafka_event_destroy(event);
        }
        CHECK(rebalances == 1 && rung > 0);
        rd_kafka_queue_yield(own);
        CHECK(!rd_kafka_queue_poll(own, 60000)); /* returns at once */

        rd_kafka_queue_cb_event_enable(own, NULL, NULL);
        rd_kafka_queue_t *behind = rd_kafka_queue_get_background(consumer);
        CHECK(behind);
        rd_kafka_queue_forward(from, behind);
        produce_text(producer, "t", "k", "v");
        CHECK(!rd_kafka_event_type(NULL));
        for (int i = 0; i < 6000 && !background; i++)
                usleep(10000);
        CHECK(background);
        rd_kafka_queue_forward(from, NULL);
        rd_kafka_queue_destroy(behind);
        rd_kafka_queue_destroy(from);
        rd_kafka_queue_destroy(own);
        rd_kafka_topic_partition_list_destroy(topics);
        rd_kafka_destroy(consumer);
        rd_kafka_destroy(producer);
        return 0;
}
