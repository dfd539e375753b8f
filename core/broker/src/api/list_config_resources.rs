//! ListConfigResources (74): what has settings, by name. Version 0 lists client metrics only.
//!
//! Serves versions 0 to 1. As Kafka.

use alloc::vec::Vec;

use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::list_config_resources::{
        ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    configs::dynamic::resource,
    context::{Handled, RequestContext},
};

/// In the order in which Kafka lists them.
const ALL: [i8; 5] = [
    resource::GROUP,
    resource::CLIENT_METRICS,
    resource::BROKER_LOGGER,
    resource::BROKER,
    resource::TOPIC,
];

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    context: &RequestContext,
    request: ListConfigResourcesRequest,
) -> Handled {
    let wanted: &[i8] = match (context.api_version, &request.resource_types[..]) {
        (0, _) => &[resource::CLIENT_METRICS],
        (_, []) => &ALL,
        (_, some) => some,
    };
    let mut response = ListConfigResourcesResponse::default();
    if wanted.iter().any(|wanted| !ALL.contains(wanted)) {
        response.error_code = ErrorCode::UNSUPPORTED_VERSION;
        return Handled::Respond(Response::ListConfigResources(response));
    }
    for resource_type in ALL.into_iter().filter(|of| wanted.contains(of)) {
        let names: Vec<Str> = match resource_type {
            resource::TOPIC => broker.topics.iter().map(|t| t.name.clone()).collect(),
            resource::BROKER | resource::BROKER_LOGGER => {
                alloc::vec![alloc::format!("{}", broker.identity.node_id).into()]
            }
            other => broker.configs.names(other).cloned().collect(),
        };
        let found = names.into_iter().map(|resource_name| ConfigResource {
            resource_name,
            resource_type,
        });
        response.config_resources.extend(found);
    }
    Handled::Respond(Response::ListConfigResources(response))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, configs::dynamic::Given, testing::Harness};
    use ottla_protocol::Request;

    #[test]
    fn by_type() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        let given = || Given::from([(Str::from("a"), Str::from("b"))]);
        h.broker.configs.replace(resource::GROUP, "g", given());
        h.broker
            .configs
            .replace(resource::CLIENT_METRICS, "m", given());
        let mut ask = |version, resource_types: &[i8]| {
            let request = ListConfigResourcesRequest {
                resource_types: resource_types.to_vec(),
            };
            let answer = h.ask(version, Request::ListConfigResources(request));
            let Response::ListConfigResources(answer) = answer else {
                panic!()
            };
            let found = answer.config_resources.into_iter();
            let found = found.map(|r| {
                (
                    r.resource_type,
                    std::string::String::from(&*r.resource_name),
                )
            });
            (answer.error_code, found.collect::<Vec<_>>())
        };
        let list =
            |all: &[(i8, &str)]| all.iter().map(|(of, name)| (*of, (*name).into())).collect();
        let all = list(&[(32, "g"), (16, "m"), (8, "1"), (4, "1"), (2, "t")]);
        assert_eq!(ask(1, &[]), (ErrorCode::NONE, all));
        assert_eq!(ask(0, &[]), (ErrorCode::NONE, list(&[(16, "m")])));
        assert_eq!(
            ask(1, &[2, 32]),
            (ErrorCode::NONE, list(&[(32, "g"), (2, "t")]))
        );
        assert_eq!(ask(1, &[7]), (ErrorCode::UNSUPPORTED_VERSION, list(&[])));
    }
}
