//! Properties of every handle.

use super::super::property::Property as P;
use super::{NO_LONGER, NO_SOCKETS};

/// Contexts of `debug`.
const DEBUG: &[&str] = &[
    "generic",
    "broker",
    "topic",
    "metadata",
    "feature",
    "queue",
    "msg",
    "protocol",
    "cgrp",
    "security",
    "fetch",
    "interceptor",
    "plugin",
    "consumer",
    "admin",
    "eos",
    "mock",
    "assignor",
    "conf",
    "telemetry",
    "all",
];
const FEATURES: &[&str] = &[
    "gzip",
    "snappy",
    "ssl",
    "sasl",
    "regex",
    "lz4",
    "sasl_gssapi",
    "sasl_plain",
    "sasl_scram",
    "plugins",
    "zstd",
    "sasl_oauthbearer",
    "http",
    "oidc",
];
const ONE_BROKER: &str =
    "an embedded broker has one address, and beginning anew leads to the same broker";

pub(super) const ROWS: &[P] = &[
    P::flags("builtin.features", FEATURES, "gzip,snappy,regex,lz4,zstd")
        .doc("What this build can do. Setting it to a feature that is missing has no effect; reading it is what it is for."),
    P::text("client.id", "rdkafka").doc("A name for the application, told to brokers and shown in group descriptions and logs."),
    P::text("metadata.broker.list", "")
        .high()
        .doc("Where the cluster is: `memory:` or `memory:NAME` (a broker in this process), `file:///path/to/dir` (a durable broker on a directory). Embedded brokers take settings as a query: `file:///var/lib/app?durability=os&num.partitions=4`. `host:port` lists come with a later version."),
    P::alias("bootstrap.servers", "metadata.broker.list").high(),
    P::integer("message.max.bytes", 1000, 1_000_000_000, "1000000")
        .medium()
        .doc("Largest record that `produce` takes, key and value together, in bytes. The topic's `max.message.bytes` limits batches besides."),
    P::integer("message.copy.max.bytes", 0, 1_000_000_000, "65535")
        .kept("records are always encoded straight into their batch, whatever their size")
        .doc("Size up to which a payload is copied rather than referred to."),
    P::integer("receive.message.max.bytes", 1000, 2_147_483_647, "100000000")
        .medium()
        .kept(NO_SOCKETS)
        .doc("Largest answer taken from a broker, in bytes. Has to be larger than `fetch.max.bytes` by 512."),
    P::integer("max.in.flight.requests.per.connection", 1, 1_000_000, "1000000")
        .doc("Batches of a partition that may be sent and not yet acknowledged. With idempotence 5 at most."),
    P::alias("max.in.flight", "max.in.flight.requests.per.connection"),
    P::choice("metadata.recovery.strategy", &[("none", "none"), ("rebootstrap", "rebootstrap")], "rebootstrap")
        .kept(ONE_BROKER)
        .doc("What to do when no known broker can be reached: nothing, or begin anew with the bootstrap servers."),
    P::integer("metadata.recovery.rebootstrap.trigger.ms", 0, 2_147_483_647, "300000")
        .kept(ONE_BROKER)
        .doc("How long no broker may be reachable before the client begins anew."),
    P::integer("topic.metadata.refresh.interval.ms", -1, 3_600_000, "300000")
        .doc("How often topics and partitions are looked up again, so that new ones are found. -1: only when something is missing."),
    P::integer("metadata.max.age.ms", 1, 86_400_000, "900000")
        .doc("How long what is known of the cluster counts as known: by then it is looked up again, even with `topic.metadata.refresh.interval.ms=-1`. Unless set, three times `topic.metadata.refresh.interval.ms`."),
    P::integer("topic.metadata.refresh.fast.interval.ms", 1, 60_000, "100")
        .doc("How often to look again while a topic or leader is unknown."),
    P::integer("topic.metadata.refresh.fast.cnt", 0, 1000, "10").deprecated().kept(NO_LONGER).doc("Old."),
    P::boolean("topic.metadata.refresh.sparse", "true")
        .kept("only the topics in use are looked up (but all for subscriptions by pattern)")
        .doc("Whether to look up only the topics in use."),
    P::integer("topic.metadata.propagation.max.ms", 0, 3_600_000, "30000")
        .doc("How long a topic that the broker doesn't know may still be on its way: records for it wait so long before they fail with `UNKNOWN_TOPIC_OR_PART`; further ones are refused with `_UNKNOWN_TOPIC`."),
    P::patterns("topic.blacklist")
        .doc("Regular expressions of topics to be treated as if they weren't there: they are missing in metadata, and subscriptions by pattern don't see them."),
    P::flags("debug", DEBUG, "")
        .medium()
        .doc("Contexts of which log lines are wanted, at level 7, which `log_level` then is. Embedded brokers have nothing to tell of `security`, `interceptor`, `plugin`, `mock`, `telemetry`, `queue` and `assignor`."),
    P::integer("socket.timeout.ms", 10, 300_000, "60000")
        .doc("How long a request may take when the call that sends it has no timeout of its own, in ms."),
    P::integer("statistics.interval.ms", 0, 86_400_000, "0")
        .high()
        .doc("How often statistics come as an event, in ms. 0: never."),
    P::integer("enabled_events", 0, 2_147_483_647, "0")
        .kept("C programs set it with `rd_kafka_conf_set_events`")
        .doc("Which events go to queues in place of callbacks."),
    P::function("error_cb").doc("Called with errors of the handle."),
    P::function("throttle_cb").doc("Called when a broker makes the client wait because a quota is used up, and when it no longer does."),
    P::function("stats_cb").doc("Called with statistics."),
    P::function("log_cb").doc("Called with log lines."),
    P::integer("log_level", 0, 7, "6").doc("Log lines up to this of syslog's levels are wanted."),
    P::boolean("log.queue", "false").doc("Log lines become events of a queue."),
    P::boolean("log.thread.name", "true").kept("log lines name the handle").doc("Whether log lines name the thread."),
    P::boolean("enable.random.seed", "true")
        .kept("every handle has its own random numbers, seeded by the operating system")
        .doc("Whether C's random numbers are seeded."),
    P::boolean("log.connection.close", "true").kept(NO_SOCKETS).doc("Whether closed connections are logged."),
    P::function("background_event_cb").doc("Called from a background thread with the events of the background queue."),
    P::function("open_cb").kept("the library opens its files itself").doc("Opens files."),
    P::function("opaque").doc("The application's pointer, given to callbacks."),
    P::function("default_topic_conf").doc("Topic properties for topics without their own."),
    P::integer("internal.termination.signal", 0, 128, "0")
        .kept("threads end without a signal")
        .doc("The signal that ends threads that wait."),
    P::boolean("allow.auto.create.topics", "false")
        .doc("Whether a consumer's subscription or assignment may create a topic. The broker's `ottla.broker.auto.create.topics.enable` has to allow it, too. Producers always may."),
    P::integer("retry.backoff.ms", 1, 300_000, "100").medium().doc("How long to wait before a failed request is tried again, in ms; doubles with each time."),
    P::integer("retry.backoff.max.ms", 1, 300_000, "1000").medium().doc("The longest wait before a failed request is tried again, in ms."),
    P::text("client.rack", "").doc("Where the client is, for brokers that choose the nearest replica."),
    P::text("plugin.library.paths", "")
        .refused("librdkafka's plugins can't be loaded")
        .doc("Shared libraries to load."),
    P::function("interceptors").doc("Interceptors."),
    P::boolean("enable.metrics.push", "true")
        .kept("the client has no metrics to push yet")
        .doc("Whether the client pushes metrics that the broker asks for (KIP-714)."),
    P::text("client.software.name", "ottla").hidden().doc("Name of the client's software, told to brokers. Bindings set it."),
    P::text("client.software.version", env!("CARGO_PKG_VERSION")).hidden().doc("Version of the client's software, told to brokers."),
    P::integer("metadata.request.timeout.ms", 10, 900_000, "60000").hidden().kept("`socket.timeout.ms` counts").doc("How long a look-up may take."),
    P::boolean("enable.sparse.connections", "true").hidden().kept("brokers are only connected to when they are needed").doc("Whether to connect late."),
    P::boolean("enable_sasl_queue", "false").hidden().kept(NO_SOCKETS).doc("A queue of its own for token refreshes."),
    P::integer("test.mock.num.brokers", 0, 10_000, "0")
        .hidden()
        .doc("More than 0: the handle gets an embedded broker of its own in memory, whatever `bootstrap.servers` says."),
    P::integer("test.mock.broker.rtt", 0, 3_600_000, "0").hidden().kept("embedded brokers answer as fast as they can").doc("Round-trip time to the mock brokers."),
];
