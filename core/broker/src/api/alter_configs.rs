//! AlterConfigs (33): the settings of a resource are replaced; what isn't named goes back to its default.
//!
//! Serves versions 0 to 2. Departs from Kafka: as IncrementalAlterConfigs does (`incremental_alter_configs.rs`), but for its
//! operations.

use alloc::vec::Vec;

use ottla_protocol::{
    ErrorCode, Response,
    messages::alter_configs::{
        AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse,
        AlterConfigsResponse,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    configs::{
        alter::{Altered, Change, Operation, Refusal},
        dynamic::resource,
    },
    context::{Handled, RequestContext},
};

pub(crate) fn handle(
    broker: &mut Broker,
    now: Now,
    _context: &RequestContext,
    request: AlterConfigsRequest,
) -> Handled {
    let key = |r: &AlterConfigsResource| (r.resource_type, r.resource_name.clone());
    let done = broker.alter_each(now, &request.resources, key, |broker, resource| {
        alter(broker, now, resource, request.validate_only)
    });
    let responses = request.resources.into_iter().zip(done);
    let responses =
        responses.map(
            |(resource, (error_code, error_message))| AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
            },
        );
    Handled::Respond(Response::AlterConfigs(AlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }))
}

fn alter(
    broker: &mut Broker,
    now: Now,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<Option<Altered>, Refusal> {
    let (kind, name) = (resource.resource_type, &resource.resource_name);
    if kind == resource::BROKER_LOGGER {
        let why = "Dynamic logger updates are not supported by AlterConfigs; use IncrementalAlterConfigs.";
        return Err((ErrorCode::INVALID_REQUEST, why.into()));
    }
    let changes = resource.configs.iter().map(|config| Change {
        name: config.name.clone(),
        operation: Operation::Set,
        value: config.value.clone(),
    });
    let changes: Vec<Change> = changes.collect();
    broker.alter_configs(now, kind, name, &changes, true, validate_only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::{Request, Str, messages::alter_configs::AlterableConfig};
    use std::vec;

    fn ask(
        h: &mut Harness,
        name: &str,
        pairs: &[(&str, Option<&str>)],
        validate_only: bool,
    ) -> ErrorCode {
        let configs = pairs.iter().map(|(name, value)| AlterableConfig {
            name: (*name).into(),
            value: value.map(Into::into),
        });
        let resources = vec![AlterConfigsResource {
            resource_type: resource::TOPIC,
            resource_name: name.into(),
            configs: configs.collect(),
        }];
        let request = AlterConfigsRequest {
            resources,
            validate_only,
        };
        let Response::AlterConfigs(answer) = h.ask(2, Request::AlterConfigs(request)) else {
            panic!()
        };
        answer.responses[0].error_code
    }

    #[test]
    fn everything_is_replaced() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[("retention.ms", "5"), ("segment.ms", "6")]);
        let given = |h: &Harness| h.broker.topics.by_name("t").unwrap().configs.clone();
        let before = given(&h);
        assert_eq!(
            ask(&mut h, "t", &[("segment.ms", Some("7"))], true),
            ErrorCode::NONE
        );
        assert_eq!(given(&h), before);
        for (pairs, code) in [
            (&[("segment.ms", None)][..], ErrorCode::INVALID_REQUEST),
            (&[("segment.ms", Some("x"))][..], ErrorCode::INVALID_CONFIG),
            (
                &[("segment.ms", Some("1")), ("segment.ms", Some("2"))][..],
                ErrorCode::INVALID_REQUEST,
            ),
        ] {
            assert_eq!(ask(&mut h, "t", pairs, false), code);
            assert_eq!(given(&h), before);
        }
        assert_eq!(
            ask(&mut h, "none", &[], false),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        );
        assert_eq!(
            ask(&mut h, "t", &[("segment.ms", Some("7"))], false),
            ErrorCode::NONE
        );
        assert_eq!(given(&h), [(Str::from("segment.ms"), Str::from("7"))]);
        let topic = h.broker.topics.by_name("t").unwrap();
        assert_eq!(
            (topic.config.segment_ms, topic.config.retention_ms),
            (7, 604_800_000)
        );
    }
}
