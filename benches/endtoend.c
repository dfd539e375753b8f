/*
 * How long a message takes from producer to consumer at a steady rate, through whatever librdkafka is linked.
 *
 *   endtoend BOOTSTRAP TOPIC RATE SECONDS SIZE [name=value ...]   properties of the producer
 *
 * One thread produces at RATE messages a second, each with its time in it; another consumes them. The first second is
 * not counted. Prints one line of JSON: messages, the rate that was reached, percentiles in microseconds.
 */
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *bootstrap, *topic;
static uint64_t expected;
static double *took, first_counted;
static volatile uint64_t received;

static double now(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what, const char *reason) {
        fprintf(stderr, "endtoend: %s: %s\n", what, reason);
        exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
        char reason[512];
        if (rd_kafka_conf_set(conf, name, value, reason, sizeof reason) != RD_KAFKA_CONF_OK)
                die(name, reason);
}

static rd_kafka_t *handle(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
        char reason[512];
        rd_kafka_t *rk = rd_kafka_new(type, conf, reason, sizeof reason);
        if (!rk)
                die("rd_kafka_new", reason);
        return rk;
}

static void *consume(void *opaque) {
        rd_kafka_t *rk = opaque;
        double deadline = now() + 120;
        while (received < expected && now() < deadline) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 100);
                if (!message)
                        continue;
                if (!message->err && message->len >= sizeof(double)) {
                        double sent;
                        memcpy(&sent, message->payload, sizeof sent);
                        took[received++] = sent < first_counted ? -1 : (now() - sent) * 1e6;
                }
                rd_kafka_message_destroy(message);
        }
        return NULL;
}

static int by_value(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;
        return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
        if (argc < 6) {
                fprintf(stderr, "usage: endtoend BOOTSTRAP TOPIC RATE SECONDS SIZE [name=value ...]\n");
                return 2;
        }
        bootstrap = argv[1], topic = argv[2];
        double rate = atof(argv[3]);
        size_t size = strtoull(argv[5], NULL, 10);
        expected = (uint64_t)(rate * atof(argv[4]));
        took = calloc(expected + 1, sizeof *took);
        char *payload = calloc(1, size < sizeof(double) ? sizeof(double) : size);

        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        set(conf, "bootstrap.servers", bootstrap);
        for (int i = 6; i < argc; i++) {
                char name[128];
                const char *equals = strchr(argv[i], '=');
                if (!equals || (size_t)(equals - argv[i]) >= sizeof name)
                        die(argv[i], "not name=value");
                memcpy(name, argv[i], (size_t)(equals - argv[i]));
                name[equals - argv[i]] = '\0';
                set(conf, name, equals + 1);
        }
        rd_kafka_t *producer = handle(RD_KAFKA_PRODUCER, conf);
        conf = rd_kafka_conf_new();
        set(conf, "bootstrap.servers", bootstrap);
        set(conf, "group.id", "endtoend");
        set(conf, "enable.auto.commit", "false");
        rd_kafka_t *consumer = handle(RD_KAFKA_CONSUMER, conf);
        rd_kafka_topic_partition_list_t *partitions = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(partitions, topic, 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
        if (rd_kafka_assign(consumer, partitions))
                die("assign", "failed");
        rd_kafka_topic_partition_list_destroy(partitions);
        rd_kafka_topic_t *rkt = rd_kafka_topic_new(producer, topic, NULL);

        pthread_t thread;
        double start = now() + 0.2;
        first_counted = start + 1;
        if (pthread_create(&thread, NULL, consume, consumer))
                die("thread", "failed");
        for (uint64_t i = 0; i < expected; i++) {
                double due = start + (double)i / rate;
                for (;;) {
                        double left = due - now();
                        if (left <= 0)
                                break;
                        struct timespec pause = {0, left > 0.0002 ? 100000 : 10000};
                        nanosleep(&pause, NULL);
                }
                double sent = now();
                memcpy(payload, &sent, sizeof sent);
                if (rd_kafka_produce(rkt, 0, RD_KAFKA_MSG_F_COPY, payload, size, NULL, 0, NULL) == -1)
                        die("produce", rd_kafka_err2str(rd_kafka_last_error()));
                if ((i & 0xff) == 0)
                        rd_kafka_poll(producer, 0);
        }
        double seconds = now() - start;
        rd_kafka_flush(producer, 60 * 1000);
        pthread_join(thread, NULL);
        if (received < expected)
                die("consume", "not every message came");
        qsort(took, received, sizeof *took, by_value);
        uint64_t skipped = 0;
        while (skipped < received && took[skipped] < 0)
                skipped++;
        uint64_t counted = received - skipped;
        double *in_order = took + skipped;
        printf("{\"messages\":%" PRIu64 ",\"rate\":%.0f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"p999_us\":%.0f}\n", counted,
               (double)expected / seconds, in_order[counted / 2], in_order[counted * 99 / 100],
               in_order[counted * 999 / 1000]);
        rd_kafka_topic_destroy(rkt);
        rd_kafka_destroy(producer);
        rd_kafka_consumer_close(consumer);
        rd_kafka_destroy(consumer);
        return 0;
}
