/* After rd_kafka_poll_set_consumer one poll serves all: callbacks of the main queue come through rd_kafka_consumer_poll, and
 * rd_kafka_poll beside it serves callbacks without touching messages. */
#include "check.h"
#include <pthread.h>

enum { MESSAGES = 20000 };

static int statistics, logs, stop;

static int on_statistics(rd_kafka_t *rk, char *json, size_t size, void *opaque) {
        (void)opaque;
        CHECK(rk && strlen(json) == size && strstr(json, "\"consumer\""));
        __atomic_add_fetch(&statistics, 1, __ATOMIC_SEQ_CST);
        return 0;
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text) {
        (void)rk, (void)level, (void)text;
        logs += !strcmp(facility, "CONFWARN");
}

static void *serve(void *rk) {
        while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST))
                rd_kafka_poll(rk, 1);
        return NULL;
}

int main(void) {
        rd_kafka_t *producer = handle(RD_KAFKA_PRODUCER, CONF("bootstrap.servers", "memory:poll_set_consumer", "batch.num.messages", "100"));
        CHECK(rd_kafka_poll_set_consumer(producer));
        char text[16];
        for (int i = 0; i < MESSAGES; i++) {
                snprintf(text, sizeof text, "%d", i);
                produce_text(producer, "t", NULL, text);
        }
        CHECK(!rd_kafka_flush(producer, 60000));

        /* The old property makes a log line, which waits in the main queue. */
        rd_kafka_conf_t *conf = CONF("bootstrap.servers", "memory:poll_set_consumer", "group.id", "g", "statistics.interval.ms", "20",
                                     "log.queue", "true", "offset.store.method", "broker");
        rd_kafka_conf_set_stats_cb(conf, on_statistics);
        rd_kafka_conf_set_log_cb(conf, on_log);
        rd_kafka_t *consumer = handle(RD_KAFKA_CONSUMER, conf);
        CHECK(!rd_kafka_poll_set_consumer(consumer));
        CHECK(!rd_kafka_set_log_queue(consumer, NULL));

        /* Nothing to consume: polls still serve. */
        for (int i = 0; i < 6000 && (!statistics || !logs); i++)
                CHECK(!rd_kafka_consumer_poll(consumer, 10));
        CHECK(statistics && logs, "%d %d", statistics, logs);
        statistics = 0;
        for (int i = 0; i < 6000 && !statistics; i++)
                CHECK(rd_kafka_poll(consumer, 10) >= 0);
        CHECK(statistics, "rd_kafka_poll serves nothing");

        /* Another thread serves meanwhile: all messages come, in order. */
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, serve, consumer));
        assign_one(consumer, "t", RD_KAFKA_OFFSET_BEGINNING);
        for (int i = 0; i < MESSAGES; i++) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 60000);
                CHECK(message && !message->err && message->offset == i, "%d", i);
                rd_kafka_message_destroy(message);
        }
        stop = 1;
        CHECK(!pthread_join(thread, NULL));
        CHECK(!rd_kafka_consumer_close(consumer));
        rd_kafka_destroy(consumer);
        rd_kafka_destroy(producer);
        return 0;
}
