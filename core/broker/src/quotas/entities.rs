//! Whom a quota is for, and which one holds for a client.

use ottla_protocol::{ErrorCode, Str};

use super::store::StoredQuotas;

/// One side of an entity: its user or its client id.
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

/// Whom a quota is for: a user, a client id, or both together.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entity {
    pub(crate) user: Part,
    pub(crate) client_id: Part,
}

pub(crate) const USER: &str = "user";
pub(crate) const CLIENT_ID: &str = "client-id";
pub(crate) const IP: &str = "ip";

impl Entity {
    /// From its parts as requests have them; no name is the default.
    pub(crate) fn named<'a>(
        parts: impl Iterator<Item = (&'a Str, &'a Option<Str>)>,
    ) -> Result<Self, (ErrorCode, Str)> {
        let invalid = |why: alloc::string::String| (ErrorCode::INVALID_REQUEST, why.into());
        let mut entity = Self::default();
        let mut with_ip = false;
        for (of, name) in parts {
            let part = match &**of {
                USER => &mut entity.user,
                CLIENT_ID => &mut entity.client_id,
                IP => {
                    with_ip = true;
                    continue;
                }
                _ => {
                    let why = alloc::format!("Unhandled client quota entity type: {of}");
                    return Err(invalid(why));
                }
            };
            if *part != Part::Absent {
                return Err(invalid(alloc::format!("Entity type {of} is given twice.")));
            }
            if name.as_deref().is_some_and(str::is_empty) {
                return Err(invalid(alloc::format!("Empty {of} not supported")));
            }
            *part = name.clone().into();
        }
        if with_ip && entity != Self::default() {
            return Err(invalid(
                "Invalid quota entity combination, IP entity should not be used with user or client ID entity.".into(),
            ));
        }
        if with_ip {
            return Err(invalid(
                "Quotas of addresses are not there: this broker doesn't limit the rate of connections."
                    .into(),
            ));
        }
        if entity == Self::default() {
            return Err(invalid("Invalid empty client quota entity".into()));
        }
        Ok(entity)
    }

    /// Its parts, as answers have them.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&'static str, Option<&Str>)> {
        [(USER, &self.user), (CLIENT_ID, &self.client_id)]
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
        };
        let bound = *quotas.entities.get(&entity)?.get(key.as_bytes())?;
        Some((bound, shared))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let entity = Entity { user, client_id };
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
