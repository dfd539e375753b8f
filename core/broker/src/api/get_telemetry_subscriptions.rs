//! GetTelemetrySubscriptions (71): which metrics a client is to push, and how often (KIP-714).
//!
//! Serves version 0. Departs from Kafka: it is served with `client.telemetry.enable`, where Kafka needs a plugin that takes client
//! metrics; subscription ids are CRC-32C over the sorted names; what a subscription matches is of Rust's `regex-lite`, without
//! look-around, back-references and Unicode classes.

use alloc::vec::Vec;

use ottla_protocol::{
    Response, Uuid,
    messages::get_telemetry_subscriptions::{
        GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
    random::Random,
    telemetry::{self, Telemetry},
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    context: &RequestContext,
    request: GetTelemetrySubscriptionsRequest,
) -> Handled {
    let id = match request.client_instance_id {
        Uuid::ZERO => fresh_id(&mut broker.random, &broker.telemetry),
        id => id,
    };
    let who = broker.who(context, id);
    let asked = broker.telemetry.ask(now, context.reply.conn, &who);
    Handled::Respond(Response::GetTelemetrySubscriptions(match asked {
        Err(error_code) => GetTelemetrySubscriptionsResponse {
            error_code,
            ..Default::default()
        },
        Ok(subscribed) => GetTelemetrySubscriptionsResponse {
            client_instance_id: subscribed.instance_id,
            subscription_id: subscribed.subscription_id,
            accepted_compression_types: accepted(),
            push_interval_ms: subscribed.interval_ms,
            telemetry_max_bytes: broker.config.telemetry_max_bytes,
            delta_temporality: true,
            requested_metrics: subscribed.metrics,
            ..Default::default()
        },
    }))
}

fn accepted() -> Vec<i8> {
    let codecs = telemetry::ACCEPTED.into_iter();
    codecs.map(|codec| codec as i8).collect()
}

/// An id that no client has.
fn fresh_id(random: &mut Random, telemetry: &Telemetry) -> Uuid {
    loop {
        let id = Uuid::from_random(random.next_u128());
        // One that begins with a dash would be an option to command-line tools.
        let is_option = id.0[0] >> 2 == 62;
        if !is_option && !telemetry.knows(&id) {
            return id;
        }
    }
}
