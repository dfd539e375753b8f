/*
 * The scenarios' interpreter for the C library: runs a plan, prints a line of JSON for each step that has a result.
 *
 *   run PLAN
 *
 * What a plan's lines mean is in docs/internals/scenarios.md.
 */
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How long anything may take, in ms. */
#define PATIENCE 10000
#define MOST_FIELDS 256
#define MOST_RECORDS 100000
#define MOST_ENDS 64

static void die(const char *format, ...) {
        va_list arguments;
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
        fputc('\n', stderr);
        exit(2);
}

static int64_t now_ms(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- values ---- */

typedef struct {
        unsigned char *bytes; /* NULL is null */
        size_t size;
} value_t;

static unsigned char digit_of(char digit) {
        const char *digits = "0123456789abcdef", *found = strchr(digits, digit);
        if (!digit || !found)
                die("not hexadecimal: %c", digit);
        return (unsigned char)(found - digits);
}

static value_t value_of(const char *hex) {
        value_t value = {NULL, 0};
        if (!strcmp(hex, "-"))
                return value;
        value.size = strlen(hex) / 2;
        value.bytes = malloc(value.size + 1);
        for (size_t i = 0; i < value.size; i++)
                value.bytes[i] = (unsigned char)(digit_of(hex[2 * i]) << 4 | digit_of(hex[2 * i + 1]));
        return value;
}

static void print_hex(const void *bytes, size_t size) {
        if (!bytes) {
                printf("null");
                return;
        }
        putchar('"');
        for (size_t i = 0; i < size; i++)
                printf("%02x", ((const unsigned char *)bytes)[i]);
        putchar('"');
}

static void print_text(const char *text) {
        putchar('"');
        for (; *text; text++) {
                if (*text == '"' || *text == '\\')
                        printf("\\%c", *text);
                else if ((unsigned char)*text < 0x20)
                        printf("\\u%04x", *text);
                else
                        putchar(*text);
        }
        putchar('"');
}

static void print_error(const char *code, const char *message) {
        printf("{\"error\":{\"code\":\"%s\",\"message\":", code);
        print_text(message);
        printf("}}");
}

static void print_err(rd_kafka_resp_err_t err) { print_error(rd_kafka_err2name(err), rd_kafka_err2str(err)); }

static void print_ok(rd_kafka_resp_err_t err) {
        if (err)
                print_err(err);
        else
                printf("{\"ok\":true}");
}

/* Logical offsets are null, but for the end. */
static void print_offset(int64_t offset) {
        if (offset == RD_KAFKA_OFFSET_END)
                printf("\"end\"");
        else if (offset < 0)
                printf("null");
        else
                printf("%" PRId64, offset);
}

static void print_offsets(rd_kafka_resp_err_t err, const int64_t *offsets, int count) {
        if (err) {
                print_err(err);
                return;
        }
        printf("{\"offsets\":[");
        for (int i = 0; i < count; i++) {
                printf(i ? "," : "");
                print_offset(offsets[i]);
        }
        printf("]}");
}

/* ---- what a scenario has open ---- */

static char *name, *servers;
/* All of them: a broker in memory lives as long as one is there. The last is the one to produce with. */
static rd_kafka_t *producers[16];
static int producer_count;
static rd_kafka_t *consumer;

/* What became of the records since the last `deliver`. */
typedef struct {
        int is_known;
        rd_kafka_resp_err_t err;
        int32_t partition;
        int64_t offset;
} delivery_t;
static delivery_t deliveries[MOST_RECORDS];
static int delivery_count;

/* Partitions whose end was reached and not left again. */
typedef struct {
        char *topic;
        int32_t partition;
        int64_t offset;
} end_t;
static end_t ends[MOST_ENDS];
static int end_count;

static void leave_end(const char *topic, int32_t partition) {
        for (int i = 0; i < end_count; i++)
                if (ends[i].partition == partition && !strcmp(ends[i].topic, topic)) {
                        free(ends[i].topic);
                        ends[i--] = ends[--end_count];
                }
}

static void reach_end(const char *topic, int32_t partition, int64_t offset) {
        leave_end(topic, partition);
        if (end_count == MOST_ENDS)
                die("more than %d partitions", MOST_ENDS);
        ends[end_count++] = (end_t){strdup(topic), partition, offset};
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque) {
        (void)rk, (void)opaque;
        delivery_t *delivery = message->_private;
        *delivery = (delivery_t){1, message->err, message->partition, message->offset};
}

/* Where rd_kafka_conf_set refuses, `reason` is printed as the step's result. */
static rd_kafka_conf_t *conf_of(char **properties, int count) {
        char reason[512];
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        rd_kafka_conf_res_t result = rd_kafka_conf_set(conf, "bootstrap.servers", servers, reason, sizeof reason);
        for (int i = 0; i < count && result == RD_KAFKA_CONF_OK; i++) {
                char *value = strchr(properties[i], '=');
                *value++ = '\0';
                result = rd_kafka_conf_set(conf, properties[i], value, reason, sizeof reason);
        }
        if (result == RD_KAFKA_CONF_OK)
                return conf;
        rd_kafka_conf_destroy(conf);
        print_error("_INVALID_ARG", reason);
        return NULL;
}

static rd_kafka_t *open_handle(rd_kafka_type_t type, char **properties, int count) {
        rd_kafka_conf_t *conf = conf_of(properties, count);
        if (!conf)
                return NULL;
        if (type == RD_KAFKA_PRODUCER)
                rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        char reason[512];
        rd_kafka_t *rk = rd_kafka_new(type, conf, reason, sizeof reason);
        if (!rk) {
                print_error(rd_kafka_err2name(rd_kafka_last_error()), reason);
                rd_kafka_conf_destroy(conf);
                return NULL;
        }
        if (type == RD_KAFKA_CONSUMER)
                rd_kafka_poll_set_consumer(rk);
        printf("{\"ok\":true}");
        return rk;
}

/* ---- producing ---- */

/* TOPIC PARTITION TIMESTAMP KEY VALUE [NAME=HEX | NAME]… */
static void produce(char **fields, int count) {
        if (count < 5 || delivery_count == MOST_RECORDS)
                die("not a record, or too many");
        delivery_t *delivery = &deliveries[delivery_count++];
        *delivery = (delivery_t){0};
        if (!producer_count) {
                *delivery = (delivery_t){.is_known = 1, .err = RD_KAFKA_RESP_ERR__STATE};
                return;
        }
        value_t key = value_of(fields[3]), value = value_of(fields[4]);
        rd_kafka_headers_t *headers = rd_kafka_headers_new(4);
        for (int i = 5; i < count; i++) {
                char *hex = strchr(fields[i], '=');
                if (hex)
                        *hex++ = '\0';
                value_t one = value_of(hex ? hex : "-");
                rd_kafka_header_add(headers, fields[i], -1, one.bytes, (ssize_t)one.size);
                free(one.bytes);
        }
        rd_kafka_resp_err_t err = rd_kafka_producev(
            producers[producer_count - 1], RD_KAFKA_V_TOPIC(fields[0]), RD_KAFKA_V_PARTITION(atoi(fields[1])),
            RD_KAFKA_V_TIMESTAMP(atoll(fields[2])), RD_KAFKA_V_KEY(key.bytes, key.size), RD_KAFKA_V_VALUE(value.bytes, value.size),
            RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_OPAQUE(delivery), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        if (err) {
                /* The headers stay the application's when the message wasn't taken. */
                rd_kafka_headers_destroy(headers);
                *delivery = (delivery_t){.is_known = 1, .err = err};
        }
        free(key.bytes);
        free(value.bytes);
}

static void deliver(void) {
        rd_kafka_resp_err_t err = producer_count ? rd_kafka_flush(producers[producer_count - 1], PATIENCE) : 0;
        if (err) {
                print_err(err);
        } else {
                printf("{\"deliveries\":[");
                for (int i = 0; i < delivery_count; i++) {
                        delivery_t *delivery = &deliveries[i];
                        printf(i ? "," : "");
                        if (!delivery->is_known) {
                                printf("null");
                        } else if (delivery->err) {
                                print_err(delivery->err);
                        } else {
                                printf("{\"partition\":%" PRId32 ",\"offset\":", delivery->partition);
                                print_offset(delivery->offset);
                                putchar('}');
                        }
                }
                printf("]}");
        }
        delivery_count = 0;
}

/* ---- consuming ---- */

static rd_kafka_resp_err_t at_time(const char *topic, int32_t partition, int64_t ms, int64_t *offset) {
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_t *one = rd_kafka_topic_partition_list_add(list, topic, partition);
        one->offset = ms;
        rd_kafka_resp_err_t err = rd_kafka_offsets_for_times(consumer, list, PATIENCE);
        if (!err)
                err = one->err;
        *offset = one->offset;
        rd_kafka_topic_partition_list_destroy(list);
        return err;
}

static rd_kafka_resp_err_t start_of(const char *topic, int32_t partition, const char *start, int64_t *offset) {
        if (*start == '@')
                return at_time(topic, partition, atoll(start + 1), offset);
        if (!strcmp(start, "beginning"))
                *offset = RD_KAFKA_OFFSET_BEGINNING;
        else if (!strcmp(start, "end"))
                *offset = RD_KAFKA_OFFSET_END;
        else if (!strcmp(start, "stored"))
                *offset = RD_KAFKA_OFFSET_STORED;
        else if (!strncmp(start, "tail:", 5))
                *offset = RD_KAFKA_OFFSET_TAIL(atoll(start + 5));
        else
                *offset = atoll(start);
        return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_topic_partition_list_t *partitions_of(char **fields, int count) {
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);
        for (int i = 1; i < count; i++)
                rd_kafka_topic_partition_list_add(list, fields[0], atoi(fields[i]));
        return list;
}

/* The call's error, or the first of the partitions. */
static rd_kafka_resp_err_t first_error(rd_kafka_resp_err_t err, const rd_kafka_topic_partition_list_t *list) {
        for (int i = 0; list && !err && i < list->cnt; i++)
                err = list->elems[i].err;
        return err;
}

static void print_record(const rd_kafka_message_t *message) {
        printf("{\"topic\":\"%s\",\"partition\":%" PRId32 ",\"offset\":%" PRId64 ",\"timestamp\":%" PRId64 ",\"key\":",
               rd_kafka_topic_name(message->rkt), message->partition, message->offset, rd_kafka_message_timestamp(message, NULL));
        print_hex(message->key, message->key_len);
        printf(",\"value\":");
        print_hex(message->payload, message->len);
        printf(",\"headers\":[");
        rd_kafka_headers_t *headers;
        if (!rd_kafka_message_headers(message, &headers)) {
                const char *header;
                const void *value;
                size_t size;
                for (size_t i = 0; !rd_kafka_header_get_all(headers, i, &header, &value, &size); i++) {
                        printf(i ? ",[" : "[");
                        print_text(header);
                        putchar(',');
                        print_hex(value, size);
                        putchar(']');
                }
        }
        printf("]}");
}

static int by_partition(const void *a, const void *b) {
        const end_t *x = a, *y = b;
        int topics = strcmp(x->topic, y->topic);
        return topics ? topics : x->partition - y->partition;
}

/* Reads until there are `count` records, until `partitions` partitions are at their end, or for `timeout` ms. An error is the result. */
static void take_records(int count, int partitions, int timeout) {
        rd_kafka_message_t **taken = malloc(sizeof *taken * MOST_RECORDS);
        int taken_count = 0;
        int64_t until = now_ms() + timeout;
        rd_kafka_message_t *failed = NULL;
        while (taken_count < count && (!partitions || end_count < partitions) && !failed) {
                int64_t left = until - now_ms();
                rd_kafka_message_t *message = left > 0 ? rd_kafka_consumer_poll(consumer, (int)left) : NULL;
                if (!message)
                        break;
                const char *topic = message->rkt ? rd_kafka_topic_name(message->rkt) : "";
                if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
                        reach_end(topic, message->partition, message->offset);
                        rd_kafka_message_destroy(message);
                } else if (message->err) {
                        failed = message;
                } else {
                        leave_end(topic, message->partition);
                        taken[taken_count++] = message;
                }
        }
        if (failed) {
                print_error(rd_kafka_err2name(failed->err), rd_kafka_message_errstr(failed));
                rd_kafka_message_destroy(failed);
        } else {
                printf("{\"records\":[");
                for (int i = 0; i < taken_count; i++) {
                        printf(i ? "," : "");
                        print_record(taken[i]);
                }
                printf("],\"ends\":[");
                qsort(ends, (size_t)end_count, sizeof *ends, by_partition);
                for (int i = 0; i < end_count; i++)
                        printf("%s[\"%s\",%" PRId32 ",%" PRId64 "]", i ? "," : "", ends[i].topic, ends[i].partition, ends[i].offset);
                printf("]}");
        }
        for (int i = 0; i < taken_count; i++)
                rd_kafka_message_destroy(taken[i]);
        free(taken);
}

static void assign(char **triples, int count) {
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count / 3);
        rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;
        for (int i = 0; i + 2 < count && !err; i += 3) {
                int32_t partition = atoi(triples[i + 1]);
                rd_kafka_topic_partition_t *one = rd_kafka_topic_partition_list_add(list, triples[i], partition);
                err = start_of(triples[i], partition, triples[i + 2], &one->offset);
        }
        print_ok(err ? err : rd_kafka_assign(consumer, list));
        rd_kafka_topic_partition_list_destroy(list);
}

static void subscribe(char **topics, int count) {
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);
        for (int i = 0; i < count; i++)
                rd_kafka_topic_partition_list_add(list, topics[i], RD_KAFKA_PARTITION_UA);
        print_ok(rd_kafka_subscribe(consumer, list));
        rd_kafka_topic_partition_list_destroy(list);
}

static void seek(char **fields) {
        rd_kafka_topic_partition_list_t *list = partitions_of(fields, 2);
        rd_kafka_resp_err_t err = start_of(fields[0], atoi(fields[1]), fields[2], &list->elems[0].offset);
        if (!err) {
                rd_kafka_error_t *error = rd_kafka_seek_partitions(consumer, list, PATIENCE);
                if (error) {
                        err = rd_kafka_error_code(error);
                        rd_kafka_error_destroy(error);
                }
        }
        print_ok(first_error(err, list));
        leave_end(fields[0], atoi(fields[1]));
        rd_kafka_topic_partition_list_destroy(list);
}

static void ask(const char *what, char **fields, int count) {
        int64_t offsets[2];
        if (!strcmp(what, "watermarks") && count == 2) {
                rd_kafka_resp_err_t err =
                    rd_kafka_query_watermark_offsets(consumer, fields[0], atoi(fields[1]), &offsets[0], &offsets[1], PATIENCE);
                print_offsets(err, offsets, 2);
                return;
        }
        if (!strcmp(what, "time") && count == 3) {
                rd_kafka_resp_err_t err = at_time(fields[0], atoi(fields[1]), atoll(fields[2]), offsets);
                print_offsets(err, offsets, 1);
                return;
        }
        rd_kafka_topic_partition_list_t *list = partitions_of(fields, 2);
        rd_kafka_resp_err_t err =
            !strcmp(what, "position") ? rd_kafka_position(consumer, list) : rd_kafka_committed(consumer, list, PATIENCE);
        print_offsets(first_error(err, list), &list->elems[0].offset, 1);
        rd_kafka_topic_partition_list_destroy(list);
}

/* ---- the plan ---- */

static void step(const char *verb, char **fields, int count) {
        if (!strcmp(verb, "producer")) {
                rd_kafka_t *producer = open_handle(RD_KAFKA_PRODUCER, fields, count);
                if (producer)
                        producers[producer_count++] = producer;
        } else if (!strcmp(verb, "deliver")) {
                deliver();
        } else if (!strcmp(verb, "consumer")) {
                consumer = open_handle(RD_KAFKA_CONSUMER, fields, count);
        } else if (!consumer) {
                print_error("_STATE", "there is no consumer");
        } else if (!strcmp(verb, "close")) {
                print_ok(rd_kafka_consumer_close(consumer));
                rd_kafka_destroy(consumer);
                consumer = NULL;
                while (end_count)
                        free(ends[--end_count].topic);
        } else if (!strcmp(verb, "assign")) {
                assign(fields, count);
        } else if (!strcmp(verb, "subscribe")) {
                subscribe(fields, count);
        } else if (!strcmp(verb, "take") && count == 1) {
                take_records(atoi(fields[0]), 0, PATIENCE);
        } else if (!strcmp(verb, "end") && count == 2) {
                take_records(MOST_RECORDS, atoi(fields[0]), PATIENCE);
        } else if (!strcmp(verb, "idle") && count == 1) {
                take_records(MOST_RECORDS, 0, atoi(fields[0]));
        } else if (!strcmp(verb, "error")) {
                take_records(MOST_RECORDS, MOST_ENDS + 1, PATIENCE);
        } else if (!strcmp(verb, "pause") || !strcmp(verb, "resume")) {
                rd_kafka_topic_partition_list_t *list = partitions_of(fields, count);
                rd_kafka_resp_err_t err = *verb == 'p' ? rd_kafka_pause_partitions(consumer, list) : rd_kafka_resume_partitions(consumer, list);
                print_ok(first_error(err, list));
                rd_kafka_topic_partition_list_destroy(list);
        } else if (!strcmp(verb, "seek") && count == 3) {
                seek(fields);
        } else if (!strcmp(verb, "commit")) {
                /* What was taken, as no offsets are named. */
                print_ok(rd_kafka_commit(consumer, NULL, 0));
        } else if (count >= 2 && (!strcmp(verb, "committed") || !strcmp(verb, "position") || !strcmp(verb, "watermarks") ||
                                  !strcmp(verb, "time"))) {
                ask(verb, fields, count);
        } else {
                die("not a step: %s", verb);
        }
}

static void done(void) {
        if (consumer) {
                rd_kafka_consumer_close(consumer);
                rd_kafka_destroy(consumer);
                consumer = NULL;
        }
        while (producer_count)
                rd_kafka_destroy(producers[--producer_count]);
        while (end_count)
                free(ends[--end_count].topic);
        free(name);
        free(servers);
        name = servers = NULL;
}

int main(int argc, char **argv) {
        if (argc != 2)
                die("usage: run PLAN");
        FILE *plan = fopen(argv[1], "r");
        if (!plan)
                die("%s can't be read", argv[1]);
        char *line = NULL;
        size_t room = 0;
        while (getline(&line, &room, plan) >= 0) {
                line[strcspn(line, "\n")] = '\0';
                char *fields[MOST_FIELDS] = {line}, *rest = line;
                int count = 0;
                while (rest && count < MOST_FIELDS)
                        fields[count++] = strsep(&rest, "\t");
                if (rest)
                        die("a line with more than %d fields", MOST_FIELDS);
                if (!strcmp(fields[0], "scenario") && count == 3) {
                        name = strdup(fields[1]);
                        servers = strdup(fields[2]);
                } else if (!strcmp(fields[0], "done")) {
                        done();
                } else if (count < 2 || !name) {
                        die("not a line of a plan: %s", fields[0]);
                } else if (!strcmp(fields[0], "record")) {
                        produce(fields + 2, count - 2);
                } else {
                        printf("{\"scenario\":\"%s\",\"step\":%s,\"result\":", name, fields[1]);
                        step(fields[0], fields + 2, count - 2);
                        puts("}");
                        fflush(stdout);
                }
        }
        free(line);
        fclose(plan);
        return 0;
}
