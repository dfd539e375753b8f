/* `throttle_cb`: a producer beyond its quota is told how long it waits, by polls of both kinds, and that it waits no longer. */
#include "check.h"
#include <sys/stat.h>
#include <time.h>

static int told, last = -1, opaque;

static void on_throttle(rd_kafka_t *rk, const char *broker_name, int32_t broker_id, int throttle_time_ms, void *mine) {
        CHECK(rk && strchr(broker_name, ':') && broker_id == 1 && throttle_time_ms >= 0 && mine == &opaque, "%s/%d", broker_name, broker_id);
        CHECK(throttle_time_ms > 0 || last > 0, "0 after %d", last);
        last = throttle_time_ms;
        told++;
}

static long long ms_since(struct timespec start) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (now.tv_sec - start.tv_sec) * 1000LL + (now.tv_nsec - start.tv_nsec) / 1000000;
}

static rd_kafka_t *limited(const char *dir) {
        char servers[600];
        snprintf(servers, sizeof servers, "file://%s", dir);
        rd_kafka_conf_t *conf = CONF("bootstrap.servers", servers, "client.id", "limited", "linger.ms", "0");
        rd_kafka_conf_set_throttle_cb(conf, on_throttle);
        rd_kafka_conf_set_opaque(conf, &opaque);
        return handle(RD_KAFKA_PRODUCER, conf);
}

int main(int argc, char **argv) {
        CHECK(argc == 2);
        char path[600], large[105001];
        /* A quota of the client id, as the broker keeps it: 10,000 bytes a second. What ten seconds may have, and a little more, is half a second. */
        CHECK(!mkdir(argv[1], 0755));
        snprintf(path, sizeof path, "%s/ottla-quotas", argv[1]);
        FILE *file = fopen(path, "w");
        CHECK(file && fputs("ottla-quotas 1\nof - =limited\nquota producer_byte_rate 10000\ncrc32c cc0c473f\n", file) > 0 && !fclose(file));
        memset(large, 'x', sizeof large - 1);
        large[sizeof large - 1] = 0;

        rd_kafka_t *rk = limited(argv[1]);
        struct timespec start;
        clock_gettime(CLOCK_MONOTONIC, &start);
        produce_text(rk, "t", NULL, large);
        for (int i = 0; i < 600 && !told; i++)
                rd_kafka_poll(rk, 100);
        CHECK(last >= 400 && last < 1500, "%d ms", last);
        /* The next request waits so long; its answer says that it is over. */
        const rd_kafka_metadata_t *metadata;
        int waits = last;
        CHECK(!rd_kafka_metadata(rk, 1, NULL, &metadata, 60000));
        rd_kafka_metadata_destroy(metadata);
        CHECK(ms_since(start) >= waits, "%lld of %d ms", ms_since(start), waits);
        rd_kafka_poll(rk, 0);
        CHECK(last == 0);
        rd_kafka_destroy(rk);

        /* Programs that poll a queue for events are called, too; there is no such event. */
        told = 0, last = -1;
        rk = limited(argv[1]);
        rd_kafka_queue_t *queue = rd_kafka_queue_get_main(rk);
        produce_text(rk, "t", NULL, large);
        for (int i = 0; i < 600 && !told; i++)
                CHECK(!rd_kafka_queue_poll(queue, 100));
        CHECK(last >= 400 && last < 1500, "%d ms", last);
        rd_kafka_queue_destroy(queue);
        rd_kafka_destroy(rk);
        return 0;
}
