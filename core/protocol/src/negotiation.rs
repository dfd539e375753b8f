//! Which version of each API two sides speak with each other.

use crate::{ApiKey, ErrorCode, messages::ApiVersionsResponse, messages::api_versions::ApiVersion};
use alloc::vec::Vec;

/// What both this crate and a peer speak. Empty until a peer has said what it speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// Ascending by key: lowest and highest common version.
    common: Vec<(ApiKey, i16, i16)>,
}

/// Compares a peer's ranges with this crate's. APIs without a common version are left out.
pub fn negotiate(peer: &[ApiVersion]) -> Versions {
    let mut common: Vec<_> = peer
        .iter()
        .filter_map(|range| {
            let key = ApiKey::from_i16(range.api_key)?;
            let ours = key.valid_versions();
            let min = range.min_version.max(*ours.start());
            let max = range.max_version.min(*ours.end());
            (min <= max).then_some((key, min, max))
        })
        .collect();
    common.sort_unstable();
    common.dedup_by_key(|(key, ..)| *key);
    Versions { common }
}

impl Versions {
    /// What two sides that both are this crate speak: everything.
    pub fn own() -> Self {
        let range = |key: ApiKey| {
            (
                key,
                *key.valid_versions().start(),
                *key.valid_versions().end(),
            )
        };
        Self {
            common: ApiKey::ALL.into_iter().map(range).collect(),
        }
    }

    /// The highest common version; `None`: the API cannot be used.
    pub fn get(&self, key: ApiKey) -> Option<i16> {
        self.range(key).map(|(_, max)| max)
    }

    /// The highest common version that is not above `limit`.
    pub fn at_most(&self, key: ApiKey, limit: i16) -> Option<i16> {
        let (min, max) = self.range(key)?;
        let version = max.min(limit);
        (version >= min).then_some(version)
    }

    /// Lowest and highest common version.
    pub fn range(&self, key: ApiKey) -> Option<(i16, i16)> {
        let at = self
            .common
            .binary_search_by_key(&key, |(key, ..)| *key)
            .ok()?;
        self.common.get(at).map(|&(_, min, max)| (min, max))
    }
}

impl ApiVersionsResponse {
    /// The answer that lists `apis` with the ranges that a Kafka 4.3 broker advertises.
    pub fn advertising(apis: &[ApiKey], error_code: ErrorCode) -> Self {
        let advertised = |&key: &ApiKey| ApiVersion {
            api_key: key as i16,
            min_version: *key.broker_versions().start(),
            max_version: *key.broker_versions().end(),
        };
        Self {
            error_code,
            api_keys: apis.iter().map(advertised).collect(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_wins() {
        let peer = |api_key, min_version, max_version| ApiVersion {
            api_key,
            min_version,
            max_version,
        };
        let versions = negotiate(&[
            peer(3, 0, 8),
            peer(0, 0, 99),
            peer(1, 0, 3),
            peer(18, 3, 4),
            peer(999, 0, 1),
        ]);
        assert_eq!(versions.get(ApiKey::Metadata), Some(8));
        assert_eq!(versions.range(ApiKey::Produce), Some((3, 13)));
        assert_eq!(versions.at_most(ApiKey::Produce, 10), Some(10));
        assert_eq!(versions.get(ApiKey::Fetch), None, "0 to 3 is too old");
        assert_eq!(versions.at_most(ApiKey::ApiVersions, 2), None);
        assert_eq!(versions.get(ApiKey::Heartbeat), None, "not offered");
    }

    #[test]
    fn a_broker_speaks_what_it_advertises() {
        for key in ApiKey::ALL {
            let (valid, advertised) = (key.valid_versions(), key.broker_versions());
            assert_eq!(valid.end(), advertised.end(), "{key:?}");
            let min = if key == ApiKey::Produce {
                0
            } else {
                *valid.start()
            };
            assert_eq!(*advertised.start(), min, "{key:?}");
        }
        let answer = ApiVersionsResponse::advertising(&ApiKey::ALL, ErrorCode::NONE);
        assert_eq!(negotiate(&answer.api_keys), Versions::own());
    }
}
