/* `debug`: each context writes its lines, to the log callback and to a queue; without it there are none. */
#include "check.h"

static const char *const wanted[] = {"broker", "metadata", "topic", "msg", "cgrp", "fetch", "eos", "conf"};
enum { WANTED = sizeof wanted / sizeof *wanted };
static int seen[WANTED], called;

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text) {
        CHECK(rk && level <= 7 && *facility && *text);
        called += level == 7;
}

/* Takes what is in the log queue. */
static void look(rd_kafka_queue_t *queue) {
        rd_kafka_event_t *event;
        while ((event = rd_kafka_queue_poll(queue, 100))) {
                const char *facility, *text;
                char contexts[64];
                int level;
                if (!rd_kafka_event_log(event, &facility, &text, &level)) {
                        CHECK(!rd_kafka_event_debug_contexts(event, contexts, sizeof contexts) && level == 7);
                        for (int i = 0; i < WANTED; i++)
                                seen[i] += !strcmp(contexts, wanted[i]);
                }
                rd_kafka_event_destroy(event);
        }
}

int main(void) {
        const char *all = "broker,metadata,topic,msg,cgrp,fetch,eos,conf";
        rd_kafka_t *producer = handle(RD_KAFKA_PRODUCER, CONF("bootstrap.servers", "memory:debug", "debug", all, "log.queue", "true",
                                                              "enable.idempotence", "true"));
        rd_kafka_queue_t *log = rd_kafka_queue_new(producer);
        /* Until the log has a queue, lines come to the main queue. */
        rd_kafka_queue_t *main_queue = rd_kafka_queue_get_main(producer);
        look(main_queue);
        rd_kafka_queue_destroy(main_queue);
        CHECK(!rd_kafka_set_log_queue(producer, log));
        produce_text(producer, "t", "k", "v");
        CHECK(!rd_kafka_flush(producer, 60000));
        look(log);
        rd_kafka_queue_destroy(log);

        rd_kafka_t *consumer = handle(RD_KAFKA_CONSUMER, CONF("bootstrap.servers", "memory:debug", "debug", all, "log.queue", "true", "group.id", "g",
                                                              "auto.offset.reset", "earliest"));
        log = rd_kafka_queue_new(consumer);
        CHECK(!rd_kafka_set_log_queue(consumer, log));
        rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(topics, "t", RD_KAFKA_PARTITION_UA);
        CHECK(!rd_kafka_subscribe(consumer, topics));
        rd_kafka_topic_partition_list_destroy(topics);
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 60000);
        CHECK(message && !message->err);
        rd_kafka_message_destroy(message);
        look(log);
        rd_kafka_queue_destroy(log);
        rd_kafka_destroy(consumer);
        for (int i = 0; i < WANTED; i++)
                CHECK(seen[i], "%s", wanted[i]);

        for (int i = 0; i < 2; i++) { /* with and without */
                rd_kafka_conf_t *conf = CONF("bootstrap.servers", "memory:debug", "debug", i ? "" : "broker");
                rd_kafka_conf_set_log_cb(conf, on_log);
                called = 0;
                rd_kafka_t *rk = handle(RD_KAFKA_PRODUCER, conf);
                produce_text(rk, "t", "k", "v");
                CHECK(!rd_kafka_flush(rk, 60000));
                rd_kafka_destroy(rk);
                CHECK(i ? !called : called, "%d: %d", i, called);
        }
        rd_kafka_destroy(producer);
        return 0;
}
