//! Settings of share groups: the broker's, and what a group may have of its own.

use alloc::{
    format,
    string::{String, ToString},
};

/// `share.auto.offset.reset`: where a group begins on a partition that it has not read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareOffsetReset {
    /// With what is produced from now on.
    Latest,
    /// With the first record there is.
    Earliest,
    /// With the first record that is at most this old, in milliseconds.
    ByDuration(i64),
}

/// What can be set for one share group (Kafka's group configs `share.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareGroupSettings {
    /// `share.session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// `share.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i32,
    /// `share.record.lock.duration.ms`: how long a record is a member's.
    pub record_lock_duration_ms: i32,
    /// `share.delivery.count.limit`: how often a record is delivered before it is archived.
    pub delivery_count_limit: i16,
    /// `share.partition.max.record.locks`: records of a partition that may be under way at once.
    pub max_record_locks: i32,
    /// `share.auto.offset.reset`.
    pub auto_offset_reset: ShareOffsetReset,
    /// `share.isolation.level` is `read_committed`.
    pub read_committed: bool,
    /// `share.renew.acknowledge.enable`.
    pub renew: bool,
}

/// What the broker is told of share groups at construction. Names follow `server.properties`, defaults are Kafka's
/// unless noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// What groups have that don't say otherwise (`group.share.*`).
    pub group: ShareGroupSettings,
    /// `group.share.max.size`: members of one group; default 200.
    pub max_size: i32,
    /// `group.share.max.share.sessions`; default 2000.
    pub max_sessions: usize,
    /// `share.coordinator.state.topic.num.partitions`: of `__share_group_state`, at least 1; default 4 (Kafka: 50). A directory
    /// keeps what it has.
    pub state_partitions: i32,
    /// `share.coordinator.state.topic.prune.interval.ms`: how often what is not needed any more is deleted from
    /// `__share_group_state`; default 5 minutes.
    pub prune_interval_ms: i64,
}

impl Default for ShareGroupSettings {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            record_lock_duration_ms: 30_000,
            delivery_count_limit: 5,
            max_record_locks: 2000,
            auto_offset_reset: ShareOffsetReset::Latest,
            read_committed: false,
            renew: true,
        }
    }
}

impl Default for ShareConfig {
    fn default() -> Self {
        Self {
            group: ShareGroupSettings::default(),
            max_size: 200,
            max_sessions: 2000,
            state_partitions: 4,
            prune_interval_ms: 5 * 60 * 1000,
        }
    }
}

impl ShareGroupSettings {
    /// Sets one group config by its name. It may be what Kafka can be told to allow; within that, what is set by a client has the
    /// bounds that the broker was given (`group.share.min.session.timeout.ms`…).
    ///
    /// # Errors
    /// What is wrong with it; also if there is no share group config of that name.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let value = value.trim();
        let number = |least: i32, most: i32| -> Result<i32, String> {
            let n: i32 = value.parse().map_err(|_| {
                format!("Invalid value {value} for configuration {name}: Not a number of type INT")
            })?;
            if (least..=most).contains(&n) {
                return Ok(n);
            }
            let bound = if n < least {
                format!("at least {least}")
            } else {
                format!("no more than {most}")
            };
            Err(format!(
                "Invalid value {value} for configuration {name}: Value must be {bound}"
            ))
        };
        let wrong = |allowed: &str| {
            format!("Invalid value {value} for configuration {name}: it must be one of {allowed}")
        };
        match name {
            "share.session.timeout.ms" => self.session_timeout_ms = number(1, i32::MAX)?,
            "share.heartbeat.interval.ms" => self.heartbeat_interval_ms = number(1, i32::MAX)?,
            "share.record.lock.duration.ms" => {
                self.record_lock_duration_ms = number(1_000, 3_600_000)?;
            }
            "share.delivery.count.limit" => {
                self.delivery_count_limit = number(2, 25)? as i16;
            }
            "share.partition.max.record.locks" => self.max_record_locks = number(100, 10_000)?,
            "share.auto.offset.reset" => {
                self.auto_offset_reset = match value.to_ascii_lowercase().as_str() {
                    "latest" => ShareOffsetReset::Latest,
                    "earliest" => ShareOffsetReset::Earliest,
                    lower => {
                        let text = lower.strip_prefix("by_duration:");
                        let ms = text.and_then(|text| duration_ms(&text.to_ascii_uppercase()));
                        ShareOffsetReset::ByDuration(
                            ms.ok_or_else(|| wrong("latest, earliest, by_duration:<ISO 8601>"))?,
                        )
                    }
                };
            }
            "share.isolation.level" => {
                self.read_committed = match value.to_ascii_lowercase().as_str() {
                    "read_committed" => true,
                    "read_uncommitted" => false,
                    _ => return Err(wrong("read_committed, read_uncommitted")),
                };
            }
            "share.renew.acknowledge.enable" => {
                self.renew = match value.to_ascii_lowercase().as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(wrong("true, false")),
                };
            }
            _ => return Err(format!("Unknown group config name: {name}")),
        }
        Ok(())
    }

    /// The value of one group config as text; `None` if there is none of that name.
    pub fn get(&self, name: &str) -> Option<String> {
        Some(match name {
            "share.session.timeout.ms" => self.session_timeout_ms.to_string(),
            "share.heartbeat.interval.ms" => self.heartbeat_interval_ms.to_string(),
            "share.record.lock.duration.ms" => self.record_lock_duration_ms.to_string(),
            "share.delivery.count.limit" => self.delivery_count_limit.to_string(),
            "share.partition.max.record.locks" => self.max_record_locks.to_string(),
            "share.auto.offset.reset" => match self.auto_offset_reset {
                ShareOffsetReset::Latest => "latest".to_string(),
                ShareOffsetReset::Earliest => "earliest".to_string(),
                ShareOffsetReset::ByDuration(ms) => {
                    format!("by_duration:PT{}.{:03}S", ms / 1000, ms % 1000)
                }
            },
            "share.isolation.level" => match self.read_committed {
                true => "read_committed".to_string(),
                false => "read_uncommitted".to_string(),
            },
            "share.renew.acknowledge.enable" => self.renew.to_string(),
            _ => return None,
        })
    }
}

/// The names that [`ShareGroupSettings::set`] knows.
pub const SHARE_GROUP_CONFIGS: [&str; 8] = [
    "share.auto.offset.reset",
    "share.delivery.count.limit",
    "share.heartbeat.interval.ms",
    "share.isolation.level",
    "share.partition.max.record.locks",
    "share.record.lock.duration.ms",
    "share.renew.acknowledge.enable",
    "share.session.timeout.ms",
];

/// An ISO 8601 duration as Java reads it (`PnDTnHnMn.nS`), in milliseconds; not negative.
fn duration_ms(text: &str) -> Option<i64> {
    let rest = text.strip_prefix('P')?;
    let (days, time) = match rest.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (rest, ""),
    };
    let mut total: i64 = 0;
    let mut parts = 0;
    let mut add = |number: &str, unit_ms: i64| -> Option<()> {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if !fraction.is_empty() && unit_ms != 1000 {
            return None;
        }
        let mut ms = whole
            .parse::<u32>()
            .ok()
            .map(i64::from)?
            .checked_mul(unit_ms)?;
        if !fraction.is_empty() {
            if !fraction.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let digits = fraction.bytes().chain(core::iter::repeat(b'0')).take(3);
            ms += digits.fold(0, |n, b| n * 10 + i64::from(b - b'0'));
        }
        total = total.checked_add(ms)?;
        parts += 1;
        Some(())
    };
    if !days.is_empty() {
        add(days.strip_suffix('D')?, 86_400_000)?;
    }
    let mut rest = time;
    for (unit, unit_ms) in [('H', 3_600_000), ('M', 60_000), ('S', 1000)] {
        if let Some((number, after)) = rest.split_once(unit) {
            add(number, unit_ms)?;
            rest = after;
        }
    }
    (rest.is_empty() && parts > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("P1D", Some(86_400_000)),
            ("PT1H30M", Some(5_400_000)),
            ("P2DT3.25S", Some(172_803_250)),
            ("PT0S", Some(0)),
            ("P", None),
            ("PT", None),
            ("PT-1S", None),
            ("PT1.5H", None),
            ("1D", None),
            ("PT1S1M", None),
        ] {
            assert_eq!(duration_ms(text), ms, "{text}");
        }
    }

    #[test]
    fn values_are_checked_and_read_back() {
        let mut s = ShareGroupSettings::default();
        for (name, value) in [
            ("share.auto.offset.reset", "earliest"),
            ("share.auto.offset.reset", "by_duration:PT90.500S"),
            ("share.delivery.count.limit", "3"),
            ("share.heartbeat.interval.ms", "6000"),
            ("share.isolation.level", "read_committed"),
            ("share.partition.max.record.locks", "500"),
            ("share.record.lock.duration.ms", "15000"),
            ("share.renew.acknowledge.enable", "false"),
            ("share.session.timeout.ms", "46000"),
        ] {
            s.set(name, value).unwrap();
            assert_eq!(s.get(name).as_deref(), Some(value));
        }
        for name in SHARE_GROUP_CONFIGS {
            assert!(s.get(name).is_some() && s.set(name, "?").is_err(), "{name}");
        }
        assert!(s.set("share.record.lock.duration.ms", "999").is_err());
        assert!(s.set("share.delivery.count.limit", "26").is_err());
        assert!(s.set("nonsense", "1").is_err() && s.get("nonsense").is_none());
    }
}
