/* Properties: setting, getting, dumping, copying, and what goes wrong. */
#include "check.h"

int main(void) {
        char reason[256] = "", value[64];
        size_t size = sizeof value;
        rd_kafka_conf_t *conf = CONF("bootstrap.servers", "memory:conf", "linger.ms", "7", "acks", "all");
        CHECK(rd_kafka_conf_set(conf, "no.such", "1", reason, sizeof reason) == RD_KAFKA_CONF_UNKNOWN);
        CHECK(strstr(reason, "no.such"), "%s", reason);
        CHECK(rd_kafka_conf_set(conf, "linger.ms", "soon", reason, sizeof reason) == RD_KAFKA_CONF_INVALID);
        CHECK(rd_kafka_conf_set(conf, "linger.ms", "soon", reason, 5) == RD_KAFKA_CONF_INVALID && strlen(reason) == 4);
        CHECK(rd_kafka_conf_set(conf, "acks", "1001", NULL, 0) == RD_KAFKA_CONF_INVALID);
        CHECK(rd_kafka_conf_set(NULL, "acks", "1", NULL, 0) != RD_KAFKA_CONF_OK);
        CHECK(rd_kafka_conf_set(conf, NULL, "1", NULL, 0) == RD_KAFKA_CONF_UNKNOWN);
        CHECK(rd_kafka_conf_get(conf, "linger.ms", value, &size) == RD_KAFKA_CONF_OK && !strcmp(value, "7") && size == 2);
        CHECK(rd_kafka_conf_get(conf, "request.required.acks", NULL, &size) == RD_KAFKA_CONF_OK && size == 3);
        CHECK(rd_kafka_conf_get(conf, "no.such", NULL, &size) == RD_KAFKA_CONF_UNKNOWN);

        rd_kafka_conf_t *copy = rd_kafka_conf_dup(conf);
        CHECK(rd_kafka_conf_set(conf, "linger.ms", NULL, NULL, 0) == RD_KAFKA_CONF_OK);
        size = sizeof value;
        CHECK(rd_kafka_conf_get(conf, "linger.ms", value, &size) == RD_KAFKA_CONF_OK && !strcmp(value, "5"));
        size_t count;
        const char **dump = rd_kafka_conf_dump(copy, &count);
        int found = 0;
        for (size_t i = 0; i < count; i += 2)
                found |= !strcmp(dump[i], "queue.buffering.max.ms") && !strcmp(dump[i + 1], "7");
        CHECK(found && count % 2 == 0 && count > 200);
        rd_kafka_conf_dump_free(dump, count);

        rd_kafka_topic_conf_t *topic = rd_kafka_topic_conf_new();
        CHECK(rd_kafka_topic_conf_set(topic, "partitioner", "murmur2", NULL, 0) == RD_KAFKA_CONF_OK);
        CHECK(rd_kafka_topic_conf_set(topic, "linger.ms", "1", NULL, 0) == RD_KAFKA_CONF_UNKNOWN);
        rd_kafka_topic_conf_t *topic_copy = rd_kafka_topic_conf_dup(topic);
        size = sizeof value;
        CHECK(rd_kafka_topic_conf_get(topic_copy, "partitioner", value, &size) == RD_KAFKA_CONF_OK);
        CHECK(!strcmp(value, "murmur2"));
        dump = rd_kafka_topic_conf_dump(topic, &count);
        CHECK(count > 20);
        rd_kafka_conf_dump_free(dump, count);
        rd_kafka_topic_conf_destroy(topic_copy);
        rd_kafka_conf_set_default_topic_conf(copy, topic);
        /* It is the configuration's now, and may be changed in place. */
        CHECK(rd_kafka_conf_get_default_topic_conf(copy) == topic);
        CHECK(rd_kafka_topic_conf_set(topic, "message.timeout.ms", "1234", NULL, 0) == RD_KAFKA_CONF_OK);
        size = sizeof value;
        CHECK(rd_kafka_conf_get(copy, "message.timeout.ms", value, &size) == RD_KAFKA_CONF_OK && !strcmp(value, "1234"));
        CHECK(rd_kafka_conf_set(copy, "delivery.timeout.ms", "4321", NULL, 0) == RD_KAFKA_CONF_OK);
        size = sizeof value;
        CHECK(rd_kafka_topic_conf_get(topic, "message.timeout.ms", value, &size) == RD_KAFKA_CONF_OK && !strcmp(value, "4321"));
        rd_kafka_conf_t *bare = rd_kafka_conf_new();
        CHECK(!rd_kafka_conf_get_default_topic_conf(bare) && !rd_kafka_conf_get_default_topic_conf(NULL));
        CHECK(rd_kafka_conf_set(bare, "acks", "1", NULL, 0) == RD_KAFKA_CONF_OK);
        rd_kafka_topic_conf_t *implied = rd_kafka_conf_get_default_topic_conf(bare);
        size = sizeof value;
        CHECK(implied && rd_kafka_topic_conf_get(implied, "acks", value, &size) == RD_KAFKA_CONF_OK && !strcmp(value, "1"));
        rd_kafka_conf_destroy(bare);

        FILE *table = tmpfile();
        rd_kafka_conf_properties_show(table);
        CHECK(ftell(table) > 20000);
        fclose(table);

        /* A configuration stays the caller's when no handle comes of it. */
        rd_kafka_conf_t *remote = CONF("bootstrap.servers", "localhost:9092");
        CHECK(!rd_kafka_new(RD_KAFKA_PRODUCER, remote, reason, sizeof reason) && *reason);
        CHECK(rd_kafka_last_error() == RD_KAFKA_RESP_ERR__INVALID_ARG || rd_kafka_last_error() == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE);
        rd_kafka_conf_destroy(remote);

        rd_kafka_t *rk = handle(RD_KAFKA_PRODUCER, copy);
        rd_kafka_topic_conf_t *of_handle = rd_kafka_default_topic_conf_dup(rk);
        size = sizeof value;
        CHECK(rd_kafka_topic_conf_get(of_handle, "message.timeout.ms", value, &size) == RD_KAFKA_CONF_OK && !strcmp(value, "4321"));
        rd_kafka_topic_conf_destroy(of_handle);
        CHECK(strstr(rd_kafka_name(rk), "#producer-") && rd_kafka_type(rk) == RD_KAFKA_PRODUCER);
        rd_kafka_destroy(rk);
        rd_kafka_conf_destroy(conf);

        /* The address may come later. */
        rk = handle(RD_KAFKA_PRODUCER, rd_kafka_conf_new());
        CHECK(rd_kafka_brokers_add(rk, "memory:later") == 1);
        produce_text(rk, "later", "k", "v");
        CHECK(rd_kafka_flush(rk, 60000) == RD_KAFKA_RESP_ERR_NO_ERROR);
        rd_kafka_destroy(rk);
        CHECK(rd_kafka_wait_destroyed(1000) == 0);

        CHECK(!strcmp(rd_kafka_err2name(RD_KAFKA_RESP_ERR__TIMED_OUT), "_TIMED_OUT"));
        CHECK(*rd_kafka_err2str(RD_KAFKA_RESP_ERR_NO_ERROR) && *rd_kafka_err2str((rd_kafka_resp_err_t)4711));
        const struct rd_kafka_err_desc *errors;
        rd_kafka_get_err_descs(&errors, &count);
        CHECK(count > 150);
        rd_kafka_error_t *error = rd_kafka_error_new(RD_KAFKA_RESP_ERR__FATAL, "so %d %s", 3, "x");
        CHECK(!strcmp(rd_kafka_error_string(error), "so 3 x") && rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__FATAL);
        rd_kafka_error_destroy(error);
        return 0;
}
