//! DescribeClientQuotas (48): the quotas of all that a filter matches.
//!
//! Serves versions 0 to 1. As Kafka.

use alloc::{format, string::String};

use ottla_protocol::{
    ErrorCode, Response,
    messages::describe_client_quotas::{
        ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse, EntityData,
        EntryData, ValueData,
    },
};
use ottla_record::Now;

use crate::{
    Broker,
    context::{Handled, RequestContext},
    quotas::entities::{CLIENT_ID, Entity, IP, Part, USER},
};

/// Types of match.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: DescribeClientQuotasRequest,
) -> Handled {
    let filter = Filter::of(&request.components, request.strict);
    let response = match filter {
        Ok(filter) => {
            let all = broker.quotas.stored().entities.iter();
            let found = all.filter(|(entity, _)| filter.matches(entity));
            let entries = found.map(|(entity, given)| EntryData {
                entity: entity
                    .parts()
                    .map(|(of, name)| EntityData {
                        entity_type: of.into(),
                        entity_name: name.cloned(),
                    })
                    .collect(),
                values: given
                    .iter()
                    .map(|(key, value)| ValueData {
                        key: key.clone(),
                        value: *value,
                    })
                    .collect(),
            });
            DescribeClientQuotasResponse {
                entries: Some(entries.collect()),
                ..Default::default()
            }
        }
        Err((error_code, message)) => DescribeClientQuotasResponse {
            error_code,
            error_message: Some(message.into()),
            entries: None,
            ..Default::default()
        },
    };
    Handled::Respond(Response::DescribeClientQuotas(response))
}

/// What one side of an entity has to be.
#[derive(Default)]
enum Wanted {
    /// Nothing was said of it.
    #[default]
    Unsaid,
    Exactly(Part),
    Any,
}

impl Wanted {
    fn matches(&self, part: &Part, strict: bool) -> bool {
        match self {
            Self::Unsaid => !strict || *part == Part::Absent,
            Self::Exactly(wanted) => part == wanted,
            Self::Any => *part != Part::Absent,
        }
    }

    fn is_said(&self) -> bool {
        !matches!(self, Self::Unsaid)
    }
}

#[derive(Default)]
struct Filter {
    user: Wanted,
    client_id: Wanted,
    ip: Wanted,
    strict: bool,
}

impl Filter {
    fn of(components: &[ComponentData], strict: bool) -> Result<Self, (ErrorCode, String)> {
        let invalid = |why: String| Err((ErrorCode::INVALID_REQUEST, why));
        let mut filter = Self {
            strict,
            ..Self::default()
        };
        for component in components {
            let of = &component.entity_type;
            let wanted = match &**of {
                USER => &mut filter.user,
                CLIENT_ID => &mut filter.client_id,
                IP => &mut filter.ip,
                "" => return invalid("Invalid empty entity type.".into()),
                _ => {
                    let why = format!("Unsupported entity type {of}.");
                    return Err((ErrorCode::UNSUPPORTED_VERSION, why));
                }
            };
            if wanted.is_said() {
                return invalid(format!(
                    "Entity type {of} cannot appear more than once in the filter."
                ));
            }
            *wanted = match (component.match_type, &component.match_) {
                (EXACT, Some(name)) => Wanted::Exactly(Part::Named(name.clone())),
                (EXACT, None) => {
                    return invalid(
                        "Request specified MATCH_TYPE_EXACT, but set match string to null.".into(),
                    );
                }
                (DEFAULT, None) => Wanted::Exactly(Part::Default),
                (DEFAULT, Some(_)) => {
                    return invalid(
                        "Request specified MATCH_TYPE_DEFAULT, but also specified a match string."
                            .into(),
                    );
                }
                (ANY, None) => Wanted::Any,
                (ANY, Some(_)) => {
                    return invalid(
                        "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string."
                            .into(),
                    );
                }
                (other, _) => return invalid(format!("Unknown match type {other}")),
            };
        }
        if filter.ip.is_said() && (filter.user.is_said() || filter.client_id.is_said()) {
            return invalid(
                "Invalid entity filter component combination: ip can't be with user or client-id."
                    .into(),
            );
        }
        Ok(filter)
    }

    fn matches(&self, entity: &Entity) -> bool {
        self.ip.matches(&entity.ip, self.strict)
            && self.user.matches(&entity.user, self.strict)
            && self.client_id.matches(&entity.client_id, self.strict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, api::alter_client_quotas::tests::set, testing::Harness};
    use ottla_protocol::{Request, Str};
    use std::{string::ToString, vec::Vec};

    type Filtered<'a> = &'a [(&'a str, i8, Option<&'a str>)];

    fn ask(h: &mut Harness, components: Filtered<'_>, strict: bool) -> Result<Vec<f64>, ErrorCode> {
        let components = components
            .iter()
            .map(|(of, match_type, name)| ComponentData {
                entity_type: (*of).into(),
                match_type: *match_type,
                match_: name.map(Str::from),
            });
        let request = DescribeClientQuotasRequest {
            components: components.collect(),
            strict,
        };
        let Response::DescribeClientQuotas(answer) =
            h.ask(1, Request::DescribeClientQuotas(request))
        else {
            panic!()
        };
        match answer.entries {
            Some(entries) => {
                let values = entries.iter().flat_map(|entry| &entry.values);
                let mut values: Vec<f64> = values.map(|value| value.value).collect();
                values.sort_by(f64::total_cmp);
                Ok(values)
            }
            None => {
                assert!(
                    answer
                        .error_message
                        .is_some_and(|m| !m.to_string().is_empty())
                );
                Err(answer.error_code)
            }
        }
    }

    #[test]
    fn what_matches() {
        let mut h = Harness::new(Durability::Os);
        for (entity, value) in [
            (&[("user", Some("u"))][..], 1.0),
            (&[("user", None)], 2.0),
            (&[("client-id", Some("c"))], 3.0),
            (&[("user", Some("u")), ("client-id", Some("c"))], 4.0),
            (&[("client-id", None), ("user", Some("u"))], 5.0),
        ] {
            let ops = [("request_percentage", Some(value))];
            assert_eq!(set(&mut h, entity, &ops), ErrorCode::NONE);
        }
        for (name, value) in [(None, 6.0), (Some("127.0.0.1"), 7.0)] {
            let ops = [("connection_creation_rate", Some(value))];
            assert_eq!(set(&mut h, &[("ip", name)], &ops), ErrorCode::NONE);
        }
        let user = ("user", 0, Some("u"));
        for (components, strict, expected) in [
            (&[][..], false, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0][..]),
            (&[], true, &[]),
            (&[user], true, &[1.0]),
            (&[user], false, &[1.0, 4.0, 5.0]),
            (&[("user", 1, None)], true, &[2.0]),
            (&[("user", 2, None)], false, &[1.0, 2.0, 4.0, 5.0]),
            (&[("user", 2, None)], true, &[1.0, 2.0]),
            (&[("client-id", 1, None)], false, &[5.0]),
            (&[user, ("client-id", 2, None)], true, &[4.0, 5.0]),
            (&[("user", 0, Some("x"))], false, &[]),
            (&[("ip", 2, None)], false, &[6.0, 7.0]),
            (&[("ip", 1, None)], true, &[6.0]),
            (&[("ip", 0, Some("127.0.0.1"))], true, &[7.0]),
            (&[("ip", 0, Some("127.0.0.2"))], true, &[]),
        ] {
            assert_eq!(
                ask(&mut h, components, strict),
                Ok(expected.to_vec()),
                "{components:?} {strict}"
            );
        }
        for (components, code) in [
            (&[("user", 7, None)][..], ErrorCode::INVALID_REQUEST),
            (&[("user", 0, None)], ErrorCode::INVALID_REQUEST),
            (&[("user", 1, Some("u"))], ErrorCode::INVALID_REQUEST),
            (&[("user", 2, Some("u"))], ErrorCode::INVALID_REQUEST),
            (&[user, user], ErrorCode::INVALID_REQUEST),
            (&[user, ("ip", 2, None)], ErrorCode::INVALID_REQUEST),
            (&[("", 2, None)], ErrorCode::INVALID_REQUEST),
            (&[("planet", 2, None)], ErrorCode::UNSUPPORTED_VERSION),
        ] {
            assert_eq!(ask(&mut h, components, false), Err(code), "{components:?}");
        }
    }
}
