//! Properties of consumers.

use super::super::property::Property as P;

const NO_SHARE: &str = "share consumers come with a later version";

pub(super) const ROWS: &[P] = &[
    P::text("group.id", "").consumer().high().doc("The consumer's group. Needed for `subscribe` and for commits."),
    P::text("group.instance.id", "")
        .consumer()
        .medium()
        .doc("Makes the consumer a static member: it may be away for up to `session.timeout.ms` and find its partitions again under the same name."),
    P::text("partition.assignment.strategy", "range,roundrobin")
        .consumer()
        .medium()
        .doc("Assignors that the consumer can take part in, by preference: `range`, `roundrobin`, `cooperative-sticky`. The group uses the first that all members have. Eager and cooperative ones don't go together."),
    P::integer("session.timeout.ms", 1, 3_600_000, "45000")
        .consumer()
        .high()
        .doc("A member of which the group hears nothing for so long is out, in ms. The broker has limits of its own."),
    P::integer("heartbeat.interval.ms", 1, 3_600_000, "3000")
        .consumer()
        .doc("How often the member tells the group that it is alive, in ms."),
    P::text("group.protocol.type", "consumer").consumer().doc("The classic protocol's type of group."),
    P::choice("group.protocol", &[("classic", "classic"), ("consumer", "consumer")], "classic")
        .consumer()
        .high()
        .doc("How the group is run: by its members (`classic`) or by the broker (`consumer`, KIP-848). In this version only `classic`; a handle with the other fails with `_UNSUPPORTED_FEATURE`."),
    P::text("group.remote.assignor", "")
        .consumer()
        .medium()
        .kept("only counts with group.protocol=consumer")
        .doc("The broker's assignor."),
    P::integer("coordinator.query.interval.ms", 1, 3_600_000, "600000")
        .consumer()
        .kept("the coordinator is looked up when it doesn't answer")
        .doc("How often the coordinator is looked up again."),
    P::integer("max.poll.interval.ms", 1, 86_400_000, "300000")
        .consumer()
        .high()
        .doc("A consumer that isn't polled for so long leaves the group, and its next poll gives `_MAX_POLL_EXCEEDED`. In ms, at least `session.timeout.ms`."),
    P::boolean("enable.auto.commit", "true")
        .consumer()
        .high()
        .doc("Stored offsets are committed every `auto.commit.interval.ms`, and at rebalances and close."),
    P::integer("auto.commit.interval.ms", 0, 86_400_000, "5000")
        .consumer()
        .medium()
        .doc("How often, in ms; 0 is never."),
    P::boolean("enable.auto.offset.store", "true")
        .consumer()
        .high()
        .doc("Each record that is handed out counts as processed: the offset behind it is stored for the next commit. Otherwise `store_offsets` does that."),
    P::integer("queued.min.messages", 1, 10_000_000, "100000")
        .consumer()
        .medium()
        .doc("Records that are fetched ahead of the application."),
    P::integer("queued.max.messages.kbytes", 1, 2_097_151, "65536")
        .consumer()
        .medium()
        .doc("KiB that are fetched ahead of the application at most."),
    P::integer("fetch.wait.max.ms", 0, 300_000, "500")
        .consumer()
        .doc("How long the broker may wait for `fetch.min.bytes`, in ms. It answers as soon as they are there."),
    P::integer("fetch.queue.backoff.ms", 0, 300_000, "1000")
        .consumer()
        .medium()
        .kept("librdkafka looks at a full queue again after this time; here the poll that makes room sends the next fetch, so that there is neither a pause to shorten nor a search to put off")
        .doc("How long to wait with the next fetch when enough was fetched ahead."),
    P::integer("fetch.message.max.bytes", 1, 1_000_000_000, "1048576")
        .consumer()
        .medium()
        .doc("Bytes of one partition in a fetch; a larger batch still comes, alone."),
    P::alias("max.partition.fetch.bytes", "fetch.message.max.bytes").consumer().medium(),
    P::integer("fetch.max.bytes", 0, 2_147_483_135, "52428800")
        .consumer()
        .medium()
        .doc("Bytes of a fetch in all. At least `message.max.bytes`."),
    P::integer("fetch.min.bytes", 0, 2_147_483_647, "1").consumer().doc("Bytes that are worth an answer before `fetch.wait.max.ms` is over."),
    P::integer("fetch.error.backoff.ms", 0, 300_000, "500").consumer().medium().doc("How long to wait after a failed fetch, in ms."),
    P::choice("offset.store.method", &[("none", "none"), ("file", "file"), ("broker", "broker")], "broker")
        .consumer()
        .deprecated()
        .kept("offsets are always the broker's to keep")
        .doc("Old."),
    P::choice(
        "isolation.level",
        &[("read_uncommitted", "read_uncommitted"), ("read_committed", "read_committed")],
        "read_committed",
    )
    .consumer()
    .high()
    .doc("Whether records of transactions are seen before they are committed, and of aborted ones at all."),
    P::function("consume_cb").consumer().doc("Called with records."),
    P::function("rebalance_cb").consumer().doc("Called when the group gives or takes partitions."),
    P::function("offset_commit_cb").consumer().doc("Called when a commit is done."),
    P::boolean("enable.partition.eof", "false").consumer().doc("The end of a partition is told each time it is reached."),
    P::boolean("check.crcs", "false").consumer().medium().doc("Checksums of batches are checked. The embedded broker checked them when they were produced."),
    P::integer("max.poll.records", 1, 2_147_483_647, "500").consumer().kept(NO_SHARE).doc("Records that a share consumer takes at once."),
    P::text("share.acknowledgement.mode", "implicit").consumer().medium().kept(NO_SHARE).doc("How a share consumer acknowledges."),
];
