//! What was changed while the broker ran: settings of brokers, groups and client metrics, and their file in the data directory.
//! Those of topics are with their topics.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
};
use core::fmt::Write;

use ottla_log::{Storage, StorageError};
use ottla_protocol::Str;

use super::{binding, rows::broker_row};
use crate::{
    BrokerConfig, BrokerError,
    state_files::{checked, read_text, with_checksum, write_text},
};

/// The file.
pub(crate) const CONFIGS: &str = "ottla-configs";

/// Types of what has settings, as requests number them.
pub(crate) mod resource {
    pub(crate) const TOPIC: i8 = 2;
    pub(crate) const BROKER: i8 = 4;
    pub(crate) const BROKER_LOGGER: i8 = 8;
    pub(crate) const CLIENT_METRICS: i8 = 16;
    pub(crate) const GROUP: i8 = 32;
}

/// Settings of one thing, by name.
pub(crate) type Given = BTreeMap<Str, Str>;

/// The settings of everything that isn't a topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DynamicConfigs {
    /// By resource type and name; a broker's is its number, and empty for all brokers. None is empty.
    pub(crate) resources: BTreeMap<(i8, Str), Given>,
}

impl DynamicConfigs {
    pub(crate) fn of(&self, resource_type: i8, name: &str) -> Option<&Given> {
        self.resources.get(&(resource_type, Str::from(name)))
    }

    /// Replaces what one thing has.
    pub(crate) fn replace(&mut self, resource_type: i8, name: &str, given: Given) {
        let key = (resource_type, Str::from(name));
        match given.is_empty() {
            true => self.resources.remove(&key),
            false => self.resources.insert(key, given),
        };
    }

    /// Names of what has settings, of one type.
    pub(crate) fn names(&self, resource_type: i8) -> impl Iterator<Item = &Str> {
        self.resources
            .keys()
            .filter(move |(of, _)| *of == resource_type)
            .map(|(_, name)| name)
    }

    /// The broker's configuration, with what was changed on top of what it was started with: for all brokers, then for this one.
    pub(crate) fn over(&self, start: &BrokerConfig) -> BrokerConfig {
        let mut config = start.clone();
        for name in ["", &*start.node_id.to_string()] {
            for (key, value) in self.of(resource::BROKER, name).into_iter().flatten() {
                if let Some(row) = broker_row(key) {
                    // It was checked when it was set, or adopted.
                    let _ = binding::set(&mut config, row, value);
                }
            }
        }
        config
    }

    /// Reads the file; nothing is changed if there is none.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Self, BrokerError> {
        match read_text(storage, CONFIGS)? {
            Some(text) => Self::parse(&text),
            None => Ok(Self::default()),
        }
    }

    /// Makes this what the directory has.
    pub(crate) fn write(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        write_text(storage, CONFIGS, self.text())
    }

    /// ```text
    /// ottla-configs 1
    /// of <resource type> <name>
    /// config <key> <value>            (of the one above)
    /// crc32c <8 hex digits>
    /// ```
    /// A name may be anything: what would end a line or a word is written as `%` and two hex digits.
    fn text(&self) -> String {
        let mut text = String::from("ottla-configs 1\n");
        for ((resource_type, name), given) in &self.resources {
            let _ = writeln!(text, "of {resource_type} {}", escaped(name));
            for (key, value) in given {
                let _ = writeln!(text, "config {} {}", escaped(key), escaped(value));
            }
        }
        with_checksum(text)
    }

    fn parse(text: &str) -> Result<Self, BrokerError> {
        let corrupt = |why: String| BrokerError::Corrupt {
            path: CONFIGS.into(),
            why,
        };
        let mut lines = checked(CONFIGS, text)?.lines();
        if lines.next() != Some("ottla-configs 1") {
            return Err(corrupt("its version can't be read".to_string()));
        }
        let mut configs = Self::default();
        let mut last = None;
        for line in lines {
            let bad = || corrupt(format!("bad line {line:?}"));
            let mut words = line.split(' ');
            let (word, first, second) = (words.next(), words.next(), words.next());
            let (Some(first), Some(second), None) = (first, second, words.next()) else {
                return Err(bad());
            };
            let second = unescaped(second).ok_or_else(bad)?;
            match (word, &last) {
                (Some("of"), _) => last = Some((first.parse().map_err(|_| bad())?, second)),
                (Some("config"), Some(of)) => {
                    let key = unescaped(first).ok_or_else(bad)?;
                    let given = configs.resources.entry(of.clone()).or_default();
                    given.insert(key, second);
                }
                _ => return Err(bad()),
            }
        }
        Ok(configs)
    }
}

/// Text without blanks and control characters.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '%' || c == ' ' || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "%{byte:02x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// The other way.
pub(crate) fn unescaped(text: &str) -> Option<Str> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut bytes = alloc::vec::Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok().map(Str::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_the_file_and_back() {
        let mut configs = DynamicConfigs::default();
        let given = |pairs: &[(&str, &str)]| -> Given {
            pairs
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect()
        };
        configs.replace(resource::BROKER, "", given(&[("log.retention.ms", "5")]));
        configs.replace(resource::BROKER, "1", given(&[("log.cleanup.policy", "")]));
        let odd = "a group\nof 100% \u{85}ümläute";
        configs.replace(
            resource::GROUP,
            odd,
            given(&[("share.isolation.level", "read_committed")]),
        );
        let text = configs.text();
        assert_eq!(DynamicConfigs::parse(&text).unwrap(), configs);
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            if let Ok(damaged) = String::from_utf8(damaged) {
                assert!(DynamicConfigs::parse(&damaged).is_err(), "byte {at}");
            }
        }
        configs.replace(resource::BROKER, "1", Given::new());
        assert_eq!(configs.resources.len(), 2);
    }

    #[test]
    fn one_broker_counts_more_than_all() {
        let mut configs = DynamicConfigs::default();
        let given = |value: &str| Given::from([(Str::from("message.max.bytes"), value.into())]);
        let start = BrokerConfig::default();
        configs.replace(resource::BROKER, "", given("7"));
        assert_eq!(configs.over(&start).topic_defaults.max_message_bytes, 7);
        configs.replace(resource::BROKER, "1", given("8"));
        configs.replace(resource::BROKER, "2", given("9"));
        assert_eq!(configs.over(&start).topic_defaults.max_message_bytes, 8);
    }
}
