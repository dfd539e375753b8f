//! Properties of topics.

use super::super::property::Property as P;
use super::NO_LONGER;

const CODECS: &[(&str, &str)] = &[
    ("none", "none"),
    ("gzip", "gzip"),
    ("snappy", "snappy"),
    ("lz4", "lz4"),
    ("zstd", "zstd"),
    ("inherit", "inherit"),
];
const RESETS: &[(&str, &str)] = &[
    ("smallest", "smallest"),
    ("earliest", "smallest"),
    ("beginning", "smallest"),
    ("largest", "largest"),
    ("latest", "largest"),
    ("end", "largest"),
    ("error", "error"),
];
const SIMPLE_CONSUMER: &str = "concerned the old consumer without groups";

pub(super) const ROWS: &[P] = &[
    P::integer("request.required.acks", -1, 1000, "-1")
        .words(&[("all", -1)])
        .topic()
        .producer()
        .high()
        .doc("Who has to have a record before it is acknowledged: all replicas (-1, `all`), the leader (1), nobody (0). An embedded broker is all replicas and the leader: with `durability=fsync` -1 and 1 both mean that the record is on disk."),
    P::alias("acks", "request.required.acks").topic().producer().high(),
    P::integer("request.timeout.ms", 1, 900_000, "30000")
        .topic()
        .producer()
        .medium()
        .doc("How long the broker may wait for acknowledgements, in ms."),
    P::integer("message.timeout.ms", 0, 2_147_483_647, "300000")
        .topic()
        .producer()
        .high()
        .doc("How long a record may take to be delivered, retries included, in ms; then it fails with `_MSG_TIMED_OUT`. 0 is for ever."),
    P::alias("delivery.timeout.ms", "message.timeout.ms").topic().producer().high(),
    P::choice("queuing.strategy", &[("fifo", "fifo"), ("lifo", "lifo")], "fifo")
        .topic()
        .producer()
        .deprecated()
        .kept("records go out in order")
        .doc("Old."),
    P::boolean("produce.offset.report", "false").topic().producer().deprecated().kept(NO_LONGER).doc("Offsets are always reported."),
    P::text("partitioner", "consistent_random")
        .topic()
        .producer()
        .high()
        .doc("`random`; `consistent` (CRC-32 of the key); `consistent_random` (the same, but random without a key); `murmur2`, `murmur2_random` (as Java); `fnv1a`, `fnv1a_random` (as Sarama); `uniform_sticky` (as Java's producer since Kafka 3.3: records without a key stay with one partition for `batch.size` bytes)."),
    P::function("partitioner_cb").topic().producer().doc("The application's own partitioner."),
    P::function("msg_order_cmp").topic().producer().deprecated().doc("Old."),
    P::function("opaque").topic().doc("The application's pointer, given to callbacks."),
    P::choice("compression.codec", CODECS, "inherit")
        .topic()
        .producer()
        .high()
        .doc("How batches of this topic are compressed; `inherit`: as the handle says. (Set on the handle's configuration it is the handle's.)"),
    P::alias("compression.type", "compression.codec").topic().producer().medium(),
    P::integer("compression.level", -1, 12, "-1")
        .topic()
        .producer()
        .medium()
        .doc("How hard to compress: gzip 0–9, lz4 0–12, zstd 1–12 and more; snappy has no levels. -1 is the codec's own default."),
    P::boolean("auto.commit.enable", "true").topic().consumer().deprecated().kept(SIMPLE_CONSUMER).doc("Old."),
    P::alias("enable.auto.commit", "auto.commit.enable").topic().consumer().deprecated(),
    P::integer("auto.commit.interval.ms", 10, 86_400_000, "60000").topic().consumer().high().kept(SIMPLE_CONSUMER).doc("Old."),
    P::choice("auto.offset.reset", RESETS, "largest")
        .topic()
        .consumer()
        .high()
        .doc("Where to begin without a committed offset, or if it is out of range: at the first record (`smallest`, `earliest`, `beginning`), at the end (`largest`, `latest`, `end`), or not at all (`error`: the application gets `_AUTO_OFFSET_RESET`)."),
    P::text("offset.store.path", ".").topic().consumer().deprecated().kept(NO_LONGER).doc("Old."),
    P::integer("offset.store.sync.interval.ms", -1, 86_400_000, "-1").topic().consumer().deprecated().kept(NO_LONGER).doc("Old."),
    P::choice("offset.store.method", &[("file", "file"), ("broker", "broker")], "broker")
        .topic()
        .consumer()
        .deprecated()
        .kept("offsets are always the broker's to keep")
        .doc("Old."),
    P::integer("consume.callback.max.messages", 0, 1_000_000, "0")
        .topic()
        .consumer()
        .doc("Records that one `rd_kafka_consume_callback` gives to its function at most; 0 is no limit. Only C programs have that function."),
];
