//! Whom a quota is for, and which one holds for a client.

use core::net::IpAddr;

use ottla_protocol::{ErrorCode, Str};

use super::{
    CONNECTION_CREATION_RATE, CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE, store::StoredQuotas,
};

/// One side of an entity: its user, its client id or its address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// It isn't part of the entity.
    #[default]
    Absent,
    /// Whoever has no quota of the own name.
    Default,
    /// The one of this name.
    Named(Str),
}

impl From<Option<Str>> for Part {
    fn from(name: Option<Str>) -> Self {
        name.map_or(Self::Default, Self::Named)
    }
}

/// Whom a quota is for: a user, a client id, or both together; or an address, which is alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entity {
    pub(crate) user: Part,
    pub(crate) client_id: Part,
    pub(crate) ip: Part,
}

pub(crate) const USER: &str = "user";
pub(crate) const CLIENT_ID: &str = "client-id";
pub(crate) const IP: &str = "ip";

/// Whether this is a quota that such an entity may have.
pub(crate) fn is_known(key: &str, of: &Entity) -> bool {
    match of.is_address() {
        true => key == CONNECTION_CREATION_RATE,
        false => [
            PRODUCER_BYTE_RATE,
            CONSUMER_BYTE_RATE,
            REQUEST_PERCENTAGE,
            CONTROLLER_MUTATION_RATE,
        ]
        .contains(&key),
    }
}

impl Entity {
    /// From its parts as requests have them; no name is the default.
    pub(crate) fn named<'a>(
        parts: impl Iterator<Item = (&'a Str, &'a Option<Str>)>,
    ) -> Result<Self, (ErrorCode, Str)> {
        let invalid = |why: alloc::string::String| (ErrorCode::INVALID_REQUEST, why.into());
        let mut entity = Self::default();
        for (of, name) in parts {
            let part = match &**of {
                USER => &mut entity.user,
                CLIENT_ID => &mut entity.client_id,
                IP => &mut entity.ip,
                _ => {
                    let why = alloc::format!("Unhandled client quota entity type: {of}");
                    return Err(invalid(why));
                }
            };
            if *part != Part::Absent {
                return Err(invalid(alloc::format!(
                    "Invalid client quota entity, duplicate entity entry {of}"
                )));
            }
            if name.as_deref().is_some_and(str::is_empty) {
                return Err(invalid(alloc::format!("Empty {of} not supported")));
            }
            *part = name.clone().into();
        }
        if entity == Self::default() {
            return Err(invalid("Invalid empty client quota entity".into()));
        }
        if entity.is_address() && (entity.user != Part::Absent || entity.client_id != Part::Absent)
        {
            return Err(invalid(
                "Invalid quota entity combination, IP entity should not be combined with User or ClientId"
                    .into(),
            ));
        }
        if let Part::Named(address) = &entity.ip
            && address.parse::<IpAddr>().is_err()
        {
            let why = alloc::format!("{address} is not a valid IP or resolvable host.");
            return Err(invalid(why));
        }
        Ok(entity)
    }

    /// Whether it is for an address, which has quotas of its own.
    pub(crate) fn is_address(&self) -> bool {
        self.ip != Part::Absent
    }

    /// Its parts, as answers have them.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&'static str, Option<&Str>)> {
        [
            (USER, &self.user),
            (CLIENT_ID, &self.client_id),
            (IP, &self.ip),
        ]
        .into_iter()
        .filter_map(|(of, part)| match part {
            Part::Absent => None,
            Part::Default => Some((of, None)),
            Part::Named(name) => Some((of, Some(name))),
        })
    }
}

/// Who uses up a quota together: all of a user's clients, all users' clients of one id, or one client id of one user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sharers {
    user: Option<Str>,
    client_id: Option<Str>,
}

impl Sharers {
    /// The user and the client id, if they are of one.
    pub(super) fn names(&self) -> (Option<Str>, Option<Str>) {
        (self.user.clone(), self.client_id.clone())
    }
}

/// The quota `key` that holds for a client, and who shares it. The first of those that Kafka looks for (`DefaultQuotaCallback`): user and
/// client id, user and any client id, user; the same of any user; client id; any client id.
pub(crate) fn sharers(
    quotas: &StoredQuotas,
    key: &str,
    user: &str,
    client_id: &str,
) -> Option<(f64, Sharers)> {
    let of_user = || Part::Named(user.into());
    let of_client = || Part::Named(client_id.into());
    let order = [
        (of_user(), of_client()),
        (of_user(), Part::Default),
        (of_user(), Part::Absent),
        (Part::Default, of_client()),
        (Part::Default, Part::Default),
        (Part::Default, Part::Absent),
        (Part::Absent, of_client()),
        (Part::Absent, Part::Default),
    ];
    order.into_iter().find_map(|(user_part, client_part)| {
        let shared = Sharers {
            user: (user_part != Part::Absent).then(|| user.into()),
            client_id: (client_part != Part::Absent).then(|| client_id.into()),
        };
        let entity = Entity {
            user: user_part,
            client_id: client_part,
            ip: Part::Absent,
        };
        let bound = *quotas.entities.get(&entity)?.get(key.as_bytes())?;
        Some((bound, shared))
    })
}

/// The quota `key` that holds for an address: its own, else that of all addresses.
pub(crate) fn of_address(quotas: &StoredQuotas, key: &str, address: IpAddr) -> Option<f64> {
    let mut default = None;
    for (entity, given) in quotas.entities.iter().filter(|(of, _)| of.is_address()) {
        let Some(bound) = given.get(key.as_bytes()).copied() else {
            continue;
        };
        match &entity.ip {
            Part::Named(name) if is_address(name, address) => return Some(bound),
            Part::Default => default = Some(bound),
            _ => {}
        }
    }
    default
}

/// Whether that is how somebody writes this address.
fn is_address(name: &str, address: IpAddr) -> bool {
    let named = name.parse::<IpAddr>();
    named.is_ok_and(|named| named.to_canonical() == address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_own_quota_or_that_of_all() {
        let mut quotas = StoredQuotas::default();
        let address = "::ffff:127.0.0.1".parse().unwrap();
        let of = |ip| Entity {
            ip,
            ..Entity::default()
        };
        let user = Entity {
            user: Part::Default,
            ..Entity::default()
        };
        for (entity, bound, expected) in [
            (user, 1.0, None),
            (of(Part::Default), 2.0, Some(2.0)),
            (of(Part::Named("127.0.0.2".into())), 3.0, Some(2.0)),
            (of(Part::Named("127.0.0.1".into())), 4.0, Some(4.0)),
        ] {
            quotas.set(&entity, [("k".into(), Some(bound))].into_iter());
            assert_eq!(of_address(&quotas, "k", address), expected);
            assert_eq!(of_address(&quotas, "other", address), None);
        }
    }

    #[test]
    fn the_nearest_quota_holds() {
        let user = || Part::Named("u".into());
        let client = || Part::Named("c".into());
        // From the farthest to the nearest: each one that comes takes over.
        let nearer = [
            (Part::Absent, Part::Default, (false, true)),
            (Part::Absent, client(), (false, true)),
            (Part::Default, Part::Absent, (true, false)),
            (Part::Default, Part::Default, (true, true)),
            (Part::Default, client(), (true, true)),
            (user(), Part::Absent, (true, false)),
            (user(), Part::Default, (true, true)),
            (user(), client(), (true, true)),
        ];
        let mut quotas = StoredQuotas::default();
        assert_eq!(sharers(&quotas, "k", "u", "c"), None);
        for (at, (user, client_id, (by_user, by_client))) in nearer.into_iter().enumerate() {
            let entity = Entity {
                user,
                client_id,
                ip: Part::Absent,
            };
            let bound = at as f64 + 1.0;
            quotas.set(&entity, [("k".into(), Some(bound))].into_iter());
            let shared = Sharers {
                user: by_user.then(|| "u".into()),
                client_id: by_client.then(|| "c".into()),
            };
            assert_eq!(sharers(&quotas, "k", "u", "c"), Some((bound, shared)));
            assert_eq!(sharers(&quotas, "other", "u", "c"), None);
        }
        // Others have what is for everybody.
        assert_eq!(sharers(&quotas, "k", "x", "c").unwrap().0, 5.0);
        assert_eq!(sharers(&quotas, "k", "x", "y").unwrap().0, 4.0);
    }
}
