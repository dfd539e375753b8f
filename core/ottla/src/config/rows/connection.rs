//! Properties of connections over TCP.

use super::super::property::Property as P;
use super::{NO_LONGER, NO_SOCKETS};

pub(super) const ROWS: &[P] = &[
    P::integer("socket.blocking.max.ms", 1, 60_000, "1000")
        .deprecated()
        .kept(NO_LONGER)
        .doc("Old."),
    P::integer("socket.send.buffer.bytes", 0, 100_000_000, "0")
        .kept(NO_SOCKETS)
        .doc("Size of the socket's send buffer; 0 is the system's."),
    P::integer("socket.receive.buffer.bytes", 0, 100_000_000, "0")
        .kept(NO_SOCKETS)
        .doc("Size of the socket's receive buffer; 0 is the system's."),
    P::boolean("socket.keepalive.enable", "false")
        .kept(NO_SOCKETS)
        .doc("TCP keep-alives."),
    P::boolean("socket.nagle.disable", "true")
        .kept(NO_SOCKETS)
        .doc("Sends small packets at once (`TCP_NODELAY`)."),
    P::integer("socket.max.fails", 0, 1_000_000, "1")
        .kept(NO_SOCKETS)
        .doc("Failed requests after which a connection is closed; 0 is never."),
    P::integer("broker.address.ttl", 0, 86_400_000, "1000")
        .kept(NO_SOCKETS)
        .doc("How long resolved addresses are kept, in ms."),
    P::choice(
        "broker.address.family",
        &[("any", "any"), ("v4", "v4"), ("v6", "v6")],
        "any",
    )
    .kept(NO_SOCKETS)
    .doc("Which IP addresses are used."),
    P::integer(
        "socket.connection.setup.timeout.ms",
        1000,
        2_147_483_647,
        "30000",
    )
    .medium()
    .kept(NO_SOCKETS)
    .doc("How long connecting may take, TLS and SASL included, in ms."),
    P::integer("connections.max.idle.ms", 0, 2_147_483_647, "0")
        .medium()
        .kept(NO_SOCKETS)
        .doc("How long a connection may be idle before it is closed; 0 is for ever."),
    P::integer("reconnect.backoff.jitter.ms", 0, 3_600_000, "0")
        .deprecated()
        .kept(NO_LONGER)
        .doc("Old."),
    P::integer("reconnect.backoff.ms", 0, 3_600_000, "100")
        .medium()
        .doc("How long to wait before connecting again, in ms; doubles with each failure."),
    P::integer("reconnect.backoff.max.ms", 0, 3_600_000, "10000")
        .medium()
        .doc("The longest wait before connecting again, in ms."),
    P::function("socket_cb")
        .kept(NO_SOCKETS)
        .doc("Makes sockets."),
    P::function("connect_cb")
        .kept(NO_SOCKETS)
        .doc("Connects sockets."),
    P::function("closesocket_cb")
        .kept(NO_SOCKETS)
        .doc("Closes sockets."),
    P::function("resolve_cb")
        .kept(NO_SOCKETS)
        .doc("Resolves names."),
    P::boolean("api.version.request", "true")
        .high()
        .deprecated()
        .kept(NO_LONGER)
        .doc("Whether brokers are asked what they can do; they always are."),
    P::integer("api.version.request.timeout.ms", 1, 300_000, "10000")
        .kept(NO_SOCKETS)
        .doc("How long that question may take, in ms."),
    P::integer("api.version.fallback.ms", 0, 604_800_000, "0")
        .medium()
        .deprecated()
        .kept(NO_LONGER)
        .doc("Old."),
    P::text("broker.version.fallback", "0.10.0")
        .medium()
        .deprecated()
        .kept(NO_LONGER)
        .doc("Old."),
    P::choice(
        "client.dns.lookup",
        &[
            ("use_all_dns_ips", "use_all_dns_ips"),
            (
                "resolve_canonical_bootstrap_servers_only",
                "resolve_canonical_bootstrap_servers_only",
            ),
        ],
        "use_all_dns_ips",
    )
    .kept(NO_SOCKETS)
    .doc("How names with several addresses are resolved."),
];
