//! Properties of the embedded broker: Ottla's own. The broker's are Kafka's `server.properties` behind `ottla.broker.`; in the
//! query of a `memory:` or `file:` address the prefix is left out.

use super::super::property::Property as P;

pub(super) const ROWS: &[P] = &[
    P::choice("ottla.broker.durability", &[("fsync", "fsync"), ("os", "os")], "fsync")
        .broker()
        .high()
        .doc("When a record is acknowledged (`acks=all` and `acks=1`), and visible to consumers: once it is on disk (`fsync`, which groups many records in one sync), or once the operating system has it (`os`: it survives the program, but not a power cut). Means nothing to `memory:`."),
    P::alias("durability", "ottla.broker.durability").broker().high(),
    P::boolean("ottla.broker.allow.network.file.system", "false").broker().doc("Whether a `file:` directory may be on a network file system (NFS, SMB, 9p, Ceph, sshfs …). Such a directory is refused otherwise: locks there don't keep other machines out, and neither syncs nor mapped files can be trusted."),
    P::integer("ottla.broker.num.partitions", 1, 10_000, "1").broker().high().doc("Partitions of topics that are created without a number."),
    P::boolean("ottla.broker.auto.create.topics.enable", "true").broker().medium().doc("Whether topics come into being when they are first produced to."),
    P::integer("ottla.broker.node.id", 0, 2_147_483_647, "1").broker().doc("The broker's node id; a directory keeps the one that it was made with."),
    P::text("ottla.broker.cluster.id", "").broker().doc("The cluster's id; a directory of another cluster is not opened. Empty: a new directory gets a random one."),
    P::integer("ottla.broker.log.segment.bytes", 1024, 2_147_483_647, "1073741824").broker().doc("Bytes at which a log begins a new file."),
    P::integer("ottla.broker.log.retention.ms", -1, i64::MAX, "604800000").broker().medium().doc("How long records are kept, in ms; -1 is for ever."),
    P::integer("ottla.broker.log.retention.bytes", -1, i64::MAX, "-1").broker().medium().doc("Bytes that a partition keeps; -1 is no limit."),
    P::boolean("ottla.broker.log.cleaner.enable", "true").broker().doc("Whether topics with `cleanup.policy=compact` are compacted, `__consumer_offsets` among them."),
    P::integer("ottla.broker.log.cleaner.dedupe.buffer.size", 1_048_576, 2_147_483_647, "134217728").broker().doc("Most memory that compaction takes for the keys of a log, in bytes; each key takes 24. A log with more keys is compacted in several rounds."),
    P::integer("ottla.broker.log.cleaner.io.max.bytes.per.second", 1, i64::MAX, "9223372036854775807").broker().doc("Most bytes that compaction reads and writes in a second. Kafka's own default is no limit either."),
    P::integer("ottla.broker.log.cleaner.backoff.ms", 0, 3_600_000, "15000").broker().doc("How long after a record was appended to a compacted topic it is looked at whether there is enough to compact, in ms."),
    P::integer("ottla.broker.message.max.bytes", 0, 2_147_483_647, "1048588").broker().medium().doc("Largest batch, compressed, in bytes."),
    P::integer("ottla.broker.offsets.topic.num.partitions", 1, 1000, "4").broker().doc("Partitions of `__consumer_offsets`, when it is created."),
    P::integer("ottla.broker.group.initial.rebalance.delay.ms", 0, 3_600_000, "0").broker().doc("How long a new group waits for more members, in ms. Kafka's own default is 3000."),
    P::integer("ottla.broker.group.min.session.timeout.ms", 1, 3_600_000, "6000").broker().doc("The shortest `session.timeout.ms` that members may have."),
    P::integer("ottla.broker.group.max.session.timeout.ms", 1, 3_600_000, "1800000").broker().doc("The longest `session.timeout.ms` that members may have."),
];
