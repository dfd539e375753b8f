//! Properties of producers.

use super::super::property::Property as P;

pub(super) const CODECS: &[(&str, &str)] = &[
    ("none", "none"),
    ("gzip", "gzip"),
    ("snappy", "snappy"),
    ("lz4", "lz4"),
    ("zstd", "zstd"),
];

pub(super) const ROWS: &[P] = &[
    P::text("transactional.id", "")
        .producer()
        .high()
        .refused("transactions come with a later version")
        .doc("The producer's name for transactions."),
    P::integer("transaction.timeout.ms", 1000, 2_147_483_647, "60000")
        .producer()
        .medium()
        .kept("transactions come with a later version")
        .doc("How long a transaction may take, in ms."),
    P::boolean("enable.idempotence", "false")
        .producer()
        .high()
        .doc("Each record is written exactly once and in order, whatever is tried again. Sets `max.in.flight` to 5 at most and needs `acks=all` and `retries`."),
    P::boolean("enable.gapless.guarantee", "false")
        .producer()
        .doc("A record that can't be delivered makes the producer fail for good, with the fatal error `_GAPLESS_GUARANTEE`; purging is no failure. Needs `enable.idempotence`."),
    P::integer("queue.buffering.max.messages", 0, 2_147_483_647, "100000")
        .producer()
        .high()
        .doc("Records that may be on their way, until their delivery reports were taken; beyond that `produce` says `_QUEUE_FULL`. 0 is no limit."),
    P::integer("queue.buffering.max.kbytes", 1, 2_147_483_647, "1048576")
        .producer()
        .high()
        .doc("KiB of keys and values that may be on their way."),
    P::float("queue.buffering.max.ms", 0.0, 900_000.0, "5")
        .producer()
        .high()
        .doc("How long a batch may wait for more records, in ms; fractions count. 0 sends each record at once."),
    P::alias("linger.ms", "queue.buffering.max.ms").producer().high(),
    P::integer("message.send.max.retries", 0, 2_147_483_647, "2147483647")
        .producer()
        .high()
        .doc("How often a batch is tried again, within `message.timeout.ms`."),
    P::alias("retries", "message.send.max.retries").producer().high(),
    P::integer("queue.buffering.backpressure.threshold", 1, 1_000_000, "1")
        .producer()
        .kept("requests never wait in line at an embedded broker")
        .doc("Requests in line at a broker from which on batches wait to grow."),
    P::choice("compression.codec", CODECS, "none").producer().medium().doc("How batches are compressed, for topics that don't say otherwise."),
    P::alias("compression.type", "compression.codec").producer().medium(),
    P::integer("batch.num.messages", 1, 1_000_000, "10000").producer().medium().doc("Records at which a batch is sent."),
    P::integer("batch.size", 1, 2_147_483_647, "1000000").producer().medium().doc("Bytes at which a batch is sent, before compression."),
    P::boolean("delivery.report.only.error", "false").producer().doc("Delivery reports only of records that failed."),
    P::function("dr_cb").producer().doc("Called with delivery reports, old form."),
    P::function("dr_msg_cb").producer().doc("Called with delivery reports."),
    P::integer("sticky.partitioning.linger.ms", 0, 900_000, "10")
        .producer()
        .doc("How long records without a key stay with one partition, so that batches are large, in ms; 0 chooses one for each record."),
];
