//! AlterClientQuotas (49): what users and clients may produce, fetch, change and take of our time, and how often addresses may connect.
//! Each entity is changed wholly or not at all.
//!
//! Serves versions 0 to 1. Departs from Kafka: an `ip` is an address, and a name that stands for one is INVALID_REQUEST, as nobody here
//! asks a name server; an entity that names a kind twice is INVALID_REQUEST, where with Kafka the last one counts.

use alloc::{format, vec::Vec};

use hashbrown::HashSet;
use ottla_protocol::{
    ErrorCode, Response, Str,
    messages::alter_client_quotas::{
        AlterClientQuotasRequest, AlterClientQuotasResponse, EntityData, EntryData, OpData,
        RequestEntryData,
    },
};
use ottla_record::Now;

use super::repeated;
use crate::{
    Broker,
    context::{Handled, RequestContext},
    quotas::{
        CONNECTION_CREATION_RATE, CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, PRODUCER_BYTE_RATE,
        REQUEST_PERCENTAGE, entities::Entity, store::StoredQuotas,
    },
};

type Refusal = (ErrorCode, Str);

pub(crate) fn handle(
    broker: &mut Broker,
    _now: Now,
    _context: &RequestContext,
    request: AlterClientQuotasRequest,
) -> Handled {
    // All of it is written at once, however many entries there are.
    let mut changed = broker.quotas.stored().clone();
    let twice = repeated(request.entries.iter().map(key));
    // What is there twice is refused once.
    let mut told = HashSet::new();
    let once = |entry: &RequestEntryData| {
        let key = key(entry);
        !twice.contains(&key) || told.insert(key)
    };
    let entries = request.entries.into_iter().filter(once).map(|entry| {
        let altered = match twice.contains(&key(&entry)) {
            true => Err((
                ErrorCode::INVALID_REQUEST,
                Str::from_static("An entity may be there once."),
            )),
            false => alter(&mut changed, &entry),
        };
        let (error_code, error_message) = match altered {
            Ok(()) => (ErrorCode::NONE, None),
            Err((code, message)) => (code, Some(message)),
        };
        let entity = entry.entity.into_iter().map(|part| EntityData {
            entity_type: part.entity_type,
            entity_name: part.entity_name,
        });
        EntryData {
            error_code,
            error_message,
            entity: entity.collect(),
        }
    });
    let mut entries: Vec<EntryData> = entries.collect();
    if !request.validate_only && changed != *broker.quotas.stored() {
        match changed.write(&*broker.storage) {
            Ok(()) => broker.quotas.put_in_force(changed),
            Err(error) => {
                let message = Str::from(format!("{error}"));
                let done = entries.iter_mut();
                for entry in done.filter(|entry| entry.error_code == ErrorCode::NONE) {
                    entry.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
                    entry.error_message = Some(message.clone());
                }
            }
        }
    }
    Handled::Respond(Response::AlterClientQuotas(AlterClientQuotasResponse {
        entries,
        ..Default::default()
    }))
}

/// The entity as it stands in the request, its parts in an order that is always the same.
fn key(entry: &RequestEntryData) -> Vec<(Str, Option<Str>)> {
    let parts = entry.entity.iter();
    let mut parts: Vec<_> = parts
        .map(|part| (part.entity_type.clone(), part.entity_name.clone()))
        .collect();
    parts.sort_unstable();
    parts
}

fn alter(changed: &mut StoredQuotas, entry: &RequestEntryData) -> Result<(), Refusal> {
    let parts = entry.entity.iter();
    let entity = Entity::named(parts.map(|part| (&part.entity_type, &part.entity_name)))?;
    let of_address = entity.is_address();
    if !repeated(entry.ops.iter().map(|op| op.key.clone())).is_empty() {
        return Err(invalid("A key may be there once.".into()));
    }
    let mut ops = entry.ops.iter();
    ops.try_for_each(|op| check(of_address, op))?;
    let values = entry.ops.iter();
    changed.set(
        &entity,
        values.map(|op| (op.key.clone(), (!op.remove).then_some(op.value))),
    );
    Ok(())
}

fn check(of_address: bool, op: &OpData) -> Result<(), Refusal> {
    let key = &op.key;
    if op.remove {
        // Also of a key that nobody knows.
        return Ok(());
    }
    // The most that its type holds, if it is a whole number, and the type's name.
    let whole = match (&**key, of_address) {
        (PRODUCER_BYTE_RATE | CONSUMER_BYTE_RATE, false) => Some((i64::MAX as f64, "a LONG")),
        (REQUEST_PERCENTAGE | CONTROLLER_MUTATION_RATE, false) => None,
        (CONNECTION_CREATION_RATE, true) => Some((i32::MAX.into(), "an INT")),
        _ => return Err(invalid(format!("Invalid configuration key {key}"))),
    };
    if op.value.is_nan() || op.value <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    let (most, type_name) = whole.unwrap_or((f64::MAX, "a DOUBLE"));
    if op.value > most {
        return Err(invalid(format!(
            "Proposed value for {key} is too large for {type_name}."
        )));
    }
    // As Kafka: what is left of a computation isn't a fraction.
    if whole.is_some() && op.value - (op.value as i64) as f64 > 1e-6 {
        return Err(invalid(format!("{key} cannot be a fractional value.")));
    }
    Ok(())
}

fn invalid(why: alloc::string::String) -> Refusal {
    (ErrorCode::INVALID_REQUEST, why.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Durability, testing::Harness};
    use ottla_protocol::{Request, messages::alter_client_quotas::RequestEntityData};
    use std::vec::Vec;

    /// A change of one entity; no value removes.
    pub(crate) fn request(
        entity: &[(&str, Option<&str>)],
        ops: &[(&str, Option<f64>)],
        validate_only: bool,
    ) -> Request {
        let entity = entity.iter().map(|(of, name)| RequestEntityData {
            entity_type: (*of).into(),
            entity_name: name.map(Into::into),
        });
        let ops = ops.iter().map(|(key, value)| OpData {
            key: (*key).into(),
            value: value.unwrap_or_default(),
            remove: value.is_none(),
        });
        Request::AlterClientQuotas(AlterClientQuotasRequest {
            entries: [RequestEntryData {
                entity: entity.collect(),
                ops: ops.collect(),
            }]
            .into(),
            validate_only,
        })
    }

    pub(crate) fn set(
        h: &mut Harness,
        entity: &[(&str, Option<&str>)],
        ops: &[(&str, Option<f64>)],
    ) -> ErrorCode {
        let Response::AlterClientQuotas(answer) = h.ask(1, request(entity, ops, false)) else {
            panic!()
        };
        assert_eq!(answer.entries.len(), 1);
        let told: Vec<_> = answer.entries[0].entity.iter().collect();
        assert_eq!(told.len(), entity.len());
        assert_eq!(
            answer.entries[0].error_message.is_some(),
            answer.entries[0].error_code != ErrorCode::NONE
        );
        answer.entries[0].error_code
    }

    #[test]
    fn what_is_refused() {
        let mut h = Harness::new(Durability::Os);
        let user = [("user", Some("u"))];
        let rate = [("producer_byte_rate", Some(1.0))];
        for ops in [
            [("no_such_rate", Some(1.0))],
            [("connection_creation_rate", Some(1.0))],
            [("consumer_byte_rate", Some(-1.0))],
            [("consumer_byte_rate", Some(0.0))],
            [("consumer_byte_rate", Some(1.5))],
            [("consumer_byte_rate", Some(1e30))],
            [("request_percentage", Some(f64::NAN))],
            [("request_percentage", Some(f64::INFINITY))],
        ] {
            assert_eq!(set(&mut h, &user, &ops), ErrorCode::INVALID_REQUEST);
            // All or nothing.
            let both = [rate[0], ops[0]];
            assert_eq!(set(&mut h, &user, &both), ErrorCode::INVALID_REQUEST);
        }
        for entity in [
            &[][..],
            &[("planet", Some("x"))],
            &[("user", Some(""))],
            &[("user", Some("a")), ("user", Some("b"))],
            &[("ip", Some("127.0.0.1"))],
            &[("ip", Some("127.0.0.1")), ("user", Some("u"))],
        ] {
            assert_eq!(set(&mut h, entity, &rate), ErrorCode::INVALID_REQUEST);
        }
        let of_address = [("connection_creation_rate", Some(5.0))];
        for entity in [
            &[("ip", Some("127.0.0.1")), ("user", Some("u"))][..],
            &[("ip", Some("127.0.0.x"))],
            &[("ip", Some(""))],
            &user,
        ] {
            assert_eq!(set(&mut h, entity, &of_address), ErrorCode::INVALID_REQUEST);
        }
        for rate in [0.0, 2.5, 3e9] {
            let rate = [("connection_creation_rate", Some(rate))];
            let entity = [("ip", None)];
            assert_eq!(set(&mut h, &entity, &rate), ErrorCode::INVALID_REQUEST);
        }
        h.ask(1, request(&user, &rate, true));
        assert!(h.broker.quotas.is_empty());
        assert_eq!(set(&mut h, &user, &rate), ErrorCode::NONE);
        assert!(!h.broker.quotas.is_empty());
        assert_eq!(set(&mut h, &user, &[(rate[0].0, None)]), ErrorCode::NONE);
        assert!(h.broker.quotas.is_empty());
    }

    #[test]
    fn they_are_there_after_a_crash() {
        let mut h = Harness::new(Durability::Os);
        let ops = [
            ("request_percentage", Some(12.5)),
            ("controller_mutation_rate", Some(0.5)),
        ];
        let entity = [("user", None), ("client-id", Some("a b"))];
        assert_eq!(set(&mut h, &entity, &ops), ErrorCode::NONE);
        let address = [("ip", Some("::1"))];
        let rate = [("connection_creation_rate", Some(5.0))];
        assert_eq!(set(&mut h, &address, &rate), ErrorCode::NONE);
        let stored = h.broker.quotas.stored().clone();
        assert_eq!(stored.entities.len(), 2);
        let mut h = h.restart(false);
        assert_eq!(*h.broker.quotas.stored(), stored);
        let none = [("connection_creation_rate", None)];
        assert_eq!(set(&mut h, &address, &none), ErrorCode::NONE);
        let removed = ops.map(|(key, _)| (key, None));
        assert_eq!(set(&mut h, &entity, &removed), ErrorCode::NONE);
        assert!(h.restart(false).broker.quotas.is_empty());
    }
}
