/* What the C tests share: a check that says where it failed, and handles in one line. */
#ifndef CHECK_H
#define CHECK_H

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(CONDITION, ...)                                                                                          \
        do {                                                                                                           \
                if (!(CONDITION)) {                                                                                    \
                        fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #CONDITION);                                \
                        fprintf(stderr, "" __VA_ARGS__);                                                               \
                        fprintf(stderr, "\n");                                                                         \
                        exit(1);                                                                                       \
                }                                                                                                      \
        } while (0)

/* A configuration from names and values, ended by NULL. */
static RD_UNUSED rd_kafka_conf_t *conf_of(const char *const *pairs) {
        rd_kafka_conf_t *conf = rd_kafka_conf_new();
        char reason[256];
        for (; *pairs; pairs += 2)
                CHECK(rd_kafka_conf_set(conf, pairs[0], pairs[1], reason, sizeof reason) == RD_KAFKA_CONF_OK, "%s", reason);
        return conf;
}

#define CONF(...) conf_of((const char *const[]){__VA_ARGS__, NULL})

static RD_UNUSED rd_kafka_t *handle(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
        char reason[512];
        rd_kafka_t *rk = rd_kafka_new(type, conf, reason, sizeof reason);
        CHECK(rk, "%s", reason);
        return rk;
}

/* Consumes a topic's partition 0 from the beginning. */
static RD_UNUSED void assign_one(rd_kafka_t *rk, const char *topic, int64_t offset) {
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(list, topic, 0)->offset = offset;
        CHECK(rd_kafka_assign(rk, list) == RD_KAFKA_RESP_ERR_NO_ERROR);
        rd_kafka_topic_partition_list_destroy(list);
}

static RD_UNUSED void produce_text(rd_kafka_t *rk, const char *topic, const char *key, const char *value) {
        rd_kafka_resp_err_t err = rd_kafka_producev(
            rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_KEY(key, key ? strlen(key) : 0),
            RD_KAFKA_V_VALUE((void *)value, strlen(value)), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        CHECK(!err, "%s", rd_kafka_err2str(err));
}

#endif
