//! The quotas, and their file in the data directory.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
};
use core::fmt::Write;

use ottla_log::{Storage, StorageError};
use ottla_protocol::Str;

use super::entities::{Entity, Part};
use crate::{
    BrokerError,
    configs::dynamic::{escaped, unescaped},
    state_files::{checked, read_text, with_checksum, write_text},
};

/// The file.
const QUOTAS: &str = "ottla-quotas";
const FIRST_LINE: &str = "ottla-quotas 1";

/// All quotas.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredQuotas {
    /// By whom they are for, then by key. None is empty.
    pub(crate) entities: BTreeMap<Entity, BTreeMap<Str, f64>>,
}

impl StoredQuotas {
    /// Sets and, without value, removes quotas of one entity.
    pub(crate) fn set(&mut self, of: &Entity, values: impl Iterator<Item = (Str, Option<f64>)>) {
        let mut given = self.entities.remove(of).unwrap_or_default();
        for (key, value) in values {
            match value {
                Some(value) => given.insert(key, value),
                None => given.remove(&key),
            };
        }
        if !given.is_empty() {
            self.entities.insert(of.clone(), given);
        }
    }

    /// Reads the file; there are no quotas if there is none.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Self, BrokerError> {
        match read_text(storage, QUOTAS)? {
            Some(text) => Self::parse(&text),
            None => Ok(Self::default()),
        }
    }

    /// Makes this what the directory has.
    pub(crate) fn write(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        write_text(storage, QUOTAS, self.text())
    }

    /// ```text
    /// ottla-quotas 1
    /// of <user> <client id>           (each `-` for none, `*` for the default, or `=` and the name)
    /// ip <address>                    (or that)
    /// quota <key> <value>             (of the one above)
    /// crc32c <8 hex digits>
    /// ```
    fn text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        for (entity, given) in &self.entities {
            let _ = if entity.is_address() {
                writeln!(text, "ip {}", part_text(&entity.ip))
            } else {
                let (user, client_id) = (part_text(&entity.user), part_text(&entity.client_id));
                writeln!(text, "of {user} {client_id}")
            };
            for (key, value) in given {
                let _ = writeln!(text, "quota {key} {value}");
            }
        }
        with_checksum(text)
    }

    fn parse(text: &str) -> Result<Self, BrokerError> {
        let corrupt = |why: String| BrokerError::Corrupt {
            path: QUOTAS.into(),
            why,
        };
        let mut lines = checked(QUOTAS, text)?.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(corrupt("its version can't be read".to_string()));
        }
        let mut quotas = Self::default();
        let mut last = None;
        for line in lines {
            let bad = || corrupt(format!("bad line {line:?}"));
            let mut words = line.split(' ');
            let word = words.next();
            let (Some(first), second, None) = (words.next(), words.next(), words.next()) else {
                return Err(bad());
            };
            match (word, second, &last) {
                (Some("of"), Some(second), _) => {
                    last = Some(Entity {
                        user: part(first).ok_or_else(bad)?,
                        client_id: part(second).ok_or_else(bad)?,
                        ip: Part::Absent,
                    });
                }
                (Some("ip"), None, _) => {
                    last = Some(Entity {
                        ip: part(first).ok_or_else(bad)?,
                        ..Entity::default()
                    });
                }
                (Some("quota"), Some(second), Some(of)) => {
                    let value: f64 = second.parse().map_err(|_| bad())?;
                    quotas.set(of, [(first.into(), Some(value))].into_iter());
                }
                _ => return Err(bad()),
            }
        }
        Ok(quotas)
    }
}

fn part_text(part: &Part) -> String {
    match part {
        Part::Absent => "-".into(),
        Part::Default => "*".into(),
        Part::Named(name) => format!("={}", escaped(name)),
    }
}

fn part(word: &str) -> Option<Part> {
    match word {
        "-" => Some(Part::Absent),
        "*" => Some(Part::Default),
        name => unescaped(name.strip_prefix('=')?).map(Part::Named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mut quotas = StoredQuotas::default();
        let named = |name: &str| Part::Named(name.into());
        for (user, client_id) in [
            (named("a b\n%"), named("*")),
            (Part::Default, Part::Absent),
            (Part::Absent, named("-")),
            (Part::Absent, Part::Default),
        ] {
            let values = [("producer_byte_rate", 1e15), ("request_percentage", 0.1)];
            let values = values.map(|(key, value)| (Str::from(key), Some(value)));
            let of = Entity {
                user,
                client_id,
                ip: Part::Absent,
            };
            quotas.set(&of, values.into_iter());
        }
        for ip in [Part::Default, named("::1")] {
            let of = Entity {
                ip,
                ..Entity::default()
            };
            let rate = ("connection_creation_rate".into(), Some(7.0));
            quotas.set(&of, [rate].into_iter());
        }
        let text = quotas.text();
        assert_eq!(StoredQuotas::parse(&text).unwrap(), quotas);
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            if let Ok(damaged) = String::from_utf8(damaged) {
                assert!(StoredQuotas::parse(&damaged).is_err(), "byte {at}");
            }
            assert!(StoredQuotas::parse(&text[..at]).is_err(), "cut at {at}");
        }
        for line in [
            "of - x",
            "of -",
            "ip * -",
            "ip x",
            "of - - -",
            "quota producer_byte_rate 1",
            "what - -",
        ] {
            let text = with_checksum(format!("{FIRST_LINE}\n{line}\n"));
            assert!(StoredQuotas::parse(&text).is_err(), "{line}");
        }
    }
}
