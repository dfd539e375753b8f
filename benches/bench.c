/*
 * Speed through librdkafka's C functions: the same program measures Ottla and librdkafka itself.
 *
 *   bench produce BOOTSTRAP COUNT SIZE [name=value ...]   produce with a delivery report for each message
 *   bench consume BOOTSTRAP COUNT SIZE [name=value ...]   produce COUNT messages (not measured), then consume them
 *   bench latency BOOTSTRAP COUNT SIZE [name=value ...]   one message at a time: produce() to its delivery report
 *
 * Prints one line of JSON: messages, seconds, CPU seconds of all threads of this process, percentiles in microseconds.
 * BOOTSTRAP "mock" is librdkafka's own mock cluster (test.mock.num.brokers=1).
 */
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* BENCH_TOPIC, or "bench". */
static const char *topic_name(void) {
        const char *name = getenv("BENCH_TOPIC");
        return name ? name : "bench";
}

static uint64_t delivered, failed;
static const char *bootstrap;
static int property_count;
static char **properties;

static double clock_seconds(clockid_t id) {
        struct timespec ts;
        clock_gettime(id, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double wall(void) { return clock_seconds(CLOCK_MONOTONIC); }
static double cpu(void) { return clock_seconds(CLOCK_PROCESS_CPUTIME_ID); }

static void die(const char *what, const char *reason) {
        fprintf(stderr, "bench: %s: %s\n", what, reason);
        exit(1);
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
        (void)rk, (void)opaque;
        if (message->err) {
                if (!failed++)
                        fprintf(stderr, "bench: delivery: %s\n", rd_kafka_err2str(message->err));
        } else
                delivered++;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
        char reason[512];
        if (rd_kafka_conf_set(conf, name, value, reason, sizeof reason) != RD_KAFKA_CONF_OK)
                die(name, reason);
}

static rd_kafka_conf_t *configuration(void) {
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        if (!strcmp(bootstrap, "mock"))
                set(conf, "test.mock.num.brokers", "1");
        else
                set(conf, "bootstrap.servers", bootstrap);
        return conf;
}

static void extra_properties(rd_kafka_conf_t *conf) {
        for (int i = 0; i < property_count; i++) {
                char name[128];
                const char *equals = strchr(properties[i], '=');
                if (!equals || (size_t)(equals - properties[i]) >= sizeof name)
                        die(properties[i], "not name=value");
                memcpy(name, properties[i], (size_t)(equals - properties[i]));
                name[equals - properties[i]] = '\0';
                set(conf, name, equals + 1);
        }
}

static rd_kafka_t *handle(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
        char reason[512];
        rd_kafka_t *rk = rd_kafka_new(type, conf, reason, sizeof reason);
        if (!rk)
                die("rd_kafka_new", reason);
        return rk;
}

/* Produces `count` messages and waits for all their reports. */
static void produce(rd_kafka_t *rk, uint64_t count, size_t size) {
        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, topic_name(), NULL);
        char *payload = malloc(size + 1);
        if (!topic || !payload)
                die("topic", rd_kafka_err2str(rd_kafka_last_error()));
        for (size_t i = 0; i < size; i++)
                payload[i] = (char)('a' + i % 26);
        uint64_t before = delivered;
        for (uint64_t i = 0; i < count; i++) {
                while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, payload, size, NULL, 0,
                                        NULL) == -1) {
                        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
                                die("produce", rd_kafka_err2str(rd_kafka_last_error()));
                        rd_kafka_poll(rk, 10);
                }
                if ((i & 0x3ff) == 0)
                        rd_kafka_poll(rk, 0);
        }
        rd_kafka_flush(rk, 120 * 1000);
        if (delivered - before != count)
                die("flush", "not every message was delivered");
        rd_kafka_topic_destroy(topic);
        free(payload);
}

static rd_kafka_t *producer(void) {
        rd_kafka_conf_t *conf = configuration();
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        set(conf, "queue.buffering.max.messages", "1000000");
        return handle(RD_KAFKA_PRODUCER, conf);
}

static int by_value(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;
        return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
        if (argc < 5) {
                fprintf(stderr, "usage: bench produce|consume|latency BOOTSTRAP COUNT SIZE [name=value ...]\n");
                return 2;
        }
        const char *mode = argv[1];
        bootstrap = argv[2];
        uint64_t count = strtoull(argv[3], NULL, 10);
        size_t size = strtoull(argv[4], NULL, 10);
        property_count = argc - 5;
        properties = argv + 5;
        double wall_start, cpu_start, p50 = 0, p99 = 0;

        if (!strcmp(mode, "produce") || !strcmp(mode, "latency")) {
                rd_kafka_conf_t *conf = configuration();
                rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
                set(conf, "queue.buffering.max.messages", "1000000");
                if (!strcmp(mode, "latency"))
                        set(conf, "linger.ms", "0");
                extra_properties(conf);
                rd_kafka_t *rk = handle(RD_KAFKA_PRODUCER, conf);
                produce(rk, 1000, size); /* connections, topic, first pages */
                wall_start = wall(), cpu_start = cpu();
                if (!strcmp(mode, "produce")) {
                        produce(rk, count, size);
                } else {
                        rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, topic_name(), NULL);
                        double *took = calloc(count, sizeof *took);
                        char *payload = calloc(1, size + 1);
                        for (uint64_t i = 0; i < count; i++) {
                                uint64_t before = delivered;
                                double start = wall();
                                if (rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, payload, size, NULL, 0, NULL) == -1)
                                        die("produce", rd_kafka_err2str(rd_kafka_last_error()));
                                while (delivered == before && !failed)
                                        rd_kafka_poll(rk, 1000);
                                took[i] = (wall() - start) * 1e6;
                        }
                        qsort(took, count, sizeof *took, by_value);
                        p50 = took[count / 2], p99 = took[count * 99 / 100];
                        free(took), free(payload);
                        rd_kafka_topic_destroy(topic);
                }
                double seconds = wall() - wall_start, cpu_seconds = cpu() - cpu_start;
                if (failed)
                        die(mode, "deliveries failed");
                printf("{\"messages\":%" PRIu64 ",\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
                       count, seconds, cpu_seconds, p50, p99);
                rd_kafka_destroy(rk);
                return 0;
        }
        if (strcmp(mode, "consume"))
                die(mode, "unknown mode");

        rd_kafka_t *keep = producer(); /* it also keeps a memory: broker alive */
        produce(keep, count, size);
        char servers[512];
        snprintf(servers, sizeof servers, "%s", bootstrap);
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        set(conf, "bootstrap.servers", servers);
        set(conf, "group.id", "bench");
        set(conf, "auto.offset.reset", "earliest");
        set(conf, "enable.auto.commit", "false");
        extra_properties(conf);
        wall_start = wall(), cpu_start = cpu();
        rd_kafka_t *rk = handle(RD_KAFKA_CONSUMER, conf);
        rd_kafka_poll_set_consumer(rk);
        rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(topics, topic_name(), RD_KAFKA_PARTITION_UA);
        rd_kafka_subscribe(rk, topics);
        rd_kafka_topic_partition_list_destroy(topics);
        uint64_t seen = 0, bytes = 0;
        while (seen < count) {
                rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 10 * 1000);
                if (!message)
                        die("consume", "no message for 10 seconds");
                if (message->err)
                        die("consume", rd_kafka_message_errstr(message));
                seen++, bytes += message->len;
                rd_kafka_message_destroy(message);
        }
        double seconds = wall() - wall_start, cpu_seconds = cpu() - cpu_start;
        if (bytes != count * size)
                die("consume", "wrong number of bytes");
        printf("{\"messages\":%" PRIu64 ",\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"p50_us\":0,\"p99_us\":0}\n", count, seconds,
               cpu_seconds);
        rd_kafka_consumer_close(rk);
        rd_kafka_destroy(rk);
        rd_kafka_destroy(keep);
        return 0;
}
