/*
 * First step of the demo: every line of a file becomes a record, keyed by the line's first word.
 *
 *   produce BOOTSTRAP TOPIC FILE      (FILE "-" is standard input)
 *
 * Plain librdkafka, nothing of Ottla's own: with BOOTSTRAP = "host:9092" the same binary writes to any Kafka.
 * It prints JSON lines: {"progress":N} now and then, one {"result":{...}} at the end.
 */
#include <errno.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Latencies in microseconds, one bucket per 1/32 of a power of two: enough for two digits of a percentile. */
static uint64_t buckets[64 * 32];
static uint64_t delivered, failed;
static char first_error[256];

static int bucket_of(uint64_t us) {
        if (us < 32)
                return (int)us;
        int log = 63 - __builtin_clzll(us);
        return (log - 4) * 32 + (int)((us >> (log - 5)) & 31);
}

static uint64_t bucket_start(int bucket) {
        if (bucket < 32)
                return (uint64_t)bucket;
        int log = bucket / 32 + 4;
        return ((uint64_t)32 + (uint64_t)(bucket % 32)) << (log - 5);
}

static uint64_t percentile(double part) {
        uint64_t wanted = (uint64_t)((double)delivered * part), seen = 0;
        for (int i = 0; i < 64 * 32; i++)
                if ((seen += buckets[i]) > wanted)
                        return bucket_start(i);
        return 0;
}

static uint64_t now_us(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* The opaque of a record is the time at which it was produced. */
static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
        (void)rk, (void)opaque;
        if (message->err) {
                if (!failed++)
                        snprintf(first_error, sizeof first_error, "%s", rd_kafka_err2str(message->err));
                return;
        }
        delivered++;
        buckets[bucket_of(now_us() - (uint64_t)(uintptr_t)message->_private)]++;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
        char reason[512];
        if (rd_kafka_conf_set(conf, name, value, reason, sizeof reason) != RD_KAFKA_CONF_OK) {
                fprintf(stderr, "produce: %s\n", reason);
                exit(2);
        }
}

int main(int argc, char **argv) {
        if (argc != 4) {
                fprintf(stderr, "usage: produce BOOTSTRAP TOPIC FILE\n");
                return 2;
        }
        FILE *input = strcmp(argv[3], "-") ? fopen(argv[3], "rb") : stdin;
        if (!input) {
                fprintf(stderr, "produce: %s: %s\n", argv[3], strerror(errno));
                return 2;
        }
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        set(conf, "bootstrap.servers", argv[1]);
        set(conf, "enable.idempotence", "true");
        set(conf, "partitioner", "murmur2"); /* as the Java clients hash keys */
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        char reason[512];
        rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
        if (!producer) {
                fprintf(stderr, "produce: %s\n", reason);
                return 2;
        }
        rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, argv[2], NULL);
        if (!topic) {
                fprintf(stderr, "produce: %s\n", rd_kafka_err2str(rd_kafka_last_error()));
                return 2;
        }

        uint64_t started = now_us(), lines = 0;
        char *line = NULL;
        size_t room = 0;
        ssize_t length;
        while ((length = getline(&line, &room, input)) >= 0) {
                size_t value_len = (size_t)length;
                if (value_len && line[value_len - 1] == '\n')
                        value_len--;
                size_t key_len = 0;
                while (key_len < value_len && line[key_len] != ' ' && line[key_len] != '\t')
                        key_len++;
                /* A full queue means: serve delivery reports until there is room again. */
                while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, line, value_len, line,
                                        key_len, (void *)(uintptr_t)now_us()) == -1) {
                        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
                                fprintf(stderr, "produce: line %" PRIu64 ": %s\n", lines + 1,
                                        rd_kafka_err2str(rd_kafka_last_error()));
                                return 1;
                        }
                        rd_kafka_poll(producer, 100);
                }
                if (++lines % 1024 == 0)
                        rd_kafka_poll(producer, 0);
                if (lines % 65536 == 0) {
                        printf("{\"progress\":%" PRIu64 "}\n", lines);
                        fflush(stdout);
                }
        }
        rd_kafka_flush(producer, 60 * 1000);
        double seconds = (double)(now_us() - started) / 1e6;
        rd_kafka_topic_destroy(topic);
        rd_kafka_destroy(producer);
        free(line);
        if (failed || delivered != lines) {
                fprintf(stderr, "produce: %" PRIu64 " of %" PRIu64 " lines were not acknowledged%s%s\n",
                        lines - delivered, lines, failed ? ": " : "", first_error);
                return 1;
        }
        printf("{\"result\":{\"lines\":%" PRIu64 ",\"seconds\":%.6f,\"p50_us\":%" PRIu64 ",\"p99_us\":%" PRIu64 "}}\n",
               lines, seconds, percentile(0.50), percentile(0.99));
        return 0;
}
