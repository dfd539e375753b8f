//! One setting as Kafka has it: its type, what it may be, and what it does here.

use alloc::{
    format,
    string::{String, ToString},
};
use core::fmt;

/// Type of a setting, with the number that `DescribeConfigs` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    /// true or false.
    Boolean = 1,
    /// A word.
    String = 2,
    /// i32.
    Int = 3,
    /// i16.
    Short = 4,
    /// i64.
    Long = 5,
    /// A decimal fraction.
    Double = 6,
    /// Words with commas between.
    List = 7,
    /// Name of a Java class.
    Class = 8,
    /// A secret: it is never told.
    Password = 9,
}

impl fmt::Display for ConfigType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        })
    }
}

/// What a value may be, besides being of its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Check {
    /// Anything.
    Any,
    /// A whole number, at least this.
    AtLeast(i64),
    /// A whole number between these, both included.
    Between(i64, i64),
    /// A fraction between these, both included.
    Real(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of these words, in upper or lower case.
    AnyCaseOf(&'static [&'static str]),
    /// Each of the list's words is one of these.
    ListOf(&'static [&'static str]),
    /// -1, or 1 to 9.
    GzipLevel,
    /// `*`, or a list of PARTITION:BROKER.
    Replicas,
    /// earliest, latest, or `by_duration:` and an ISO 8601 duration.
    ShareOffsetReset,
}

/// When a setting of the broker can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// At start only.
    ReadOnly,
    /// While it runs, for one broker.
    PerBroker,
    /// While it runs, for one broker or for all.
    ClusterWide,
}

/// What a setting does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it says.
    Effective,
    /// What it says, where there are sockets: in `ottla serve`.
    Server,
    /// It is checked and kept, and does nothing, for this reason.
    Without(&'static str),
    /// Anything but its default is an error, for this reason.
    Refused(&'static str),
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Kafka's name.
    pub name: &'static str,
    /// Its type.
    pub config_type: ConfigType,
    /// Its default; `None` is null.
    pub default: Option<&'static str>,
    /// Kafka's default where ours is another.
    pub kafka_default: Option<Option<&'static str>>,
    /// What it may be.
    pub check: Check,
    /// When it can be changed.
    pub update: Update,
    /// What it does here.
    pub effect: Effect,
    /// What it is.
    pub doc: &'static str,
    /// Kafka doesn't tell of it in `DescribeConfigs` unless it is set.
    pub is_internal: bool,
}

impl Row {
    pub(super) const fn new(
        name: &'static str,
        config_type: ConfigType,
        default: Option<&'static str>,
        check: Check,
        update: Update,
        effect: Effect,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            config_type,
            default,
            kafka_default: None,
            check,
            update,
            effect,
            doc,
            is_internal: false,
        }
    }

    pub(super) const fn kafkas(mut self, default: Option<&'static str>) -> Self {
        self.kafka_default = Some(default);
        self
    }

    pub(super) const fn internal(mut self) -> Self {
        self.is_internal = true;
        self
    }

    /// Checks a value. The error is the end of Kafka's message.
    pub fn check(&self, value: &str) -> Result<(), String> {
        check(self.config_type, self.check, value.trim())
    }

    /// Text for `DescribeConfigs`: what the setting is, and what it does here unless that is the same.
    pub fn documentation(&self) -> String {
        match self.effect {
            Effect::Effective => self.doc.to_string(),
            Effect::Server => format!("{} Where there are sockets: in ottla serve.", self.doc),
            Effect::Without(why) => format!("No effect: {why}. {}", self.doc),
            Effect::Refused(why) => format!("Refused: {why}. {}", self.doc),
        }
    }
}

/// Kafka's message for a value that a setting can't have.
pub(crate) fn invalid(name: &str, value: &str, why: &str) -> String {
    format!("Invalid value {value} for configuration {name}: {why}")
}

/// What Kafka's message names of a value that fails a check: of a list the word that is wrong.
pub(crate) fn offending(check: Check, value: &str) -> &str {
    match check {
        Check::ListOf(allowed) => entries(value).find(|word| !allowed.contains(word)),
        _ => None,
    }
    .unwrap_or(value)
}

/// The words of a list.
pub(crate) fn words(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

/// The entries of a list as Kafka takes it apart: none of the empty text, else also those between two commas with nothing in them.
fn entries(value: &str) -> impl Iterator<Item = &str> {
    let entries = value.split(',').map(str::trim);
    entries.filter(move |_| !value.trim().is_empty())
}

fn list(words: &[&str]) -> String {
    words.join(", ")
}

pub(crate) fn check(config_type: ConfigType, check: Check, value: &str) -> Result<(), String> {
    let whole = |min: i64, max: i64| {
        let number: i64 = value
            .parse()
            .map_err(|_| format!("Not a number of type {config_type}"))?;
        if number < min || number > max {
            return Err(format!("Not a number of type {config_type}"));
        }
        match check {
            Check::AtLeast(least) | Check::Between(least, _) if number < least => {
                Err(format!("Value must be at least {least}"))
            }
            Check::Between(_, most) if number > most => {
                Err(format!("Value must be no more than {most}"))
            }
            Check::GzipLevel if number != -1 && !(1..=9).contains(&number) => {
                Err("Value must be between 1 and 9 or equal to -1".to_string())
            }
            _ => Ok(()),
        }
    };
    match config_type {
        ConfigType::Boolean => match value {
            _ if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") => {
                Ok(())
            }
            _ => Err("Expected value to be either true or false".to_string()),
        },
        ConfigType::Short => whole(i16::MIN.into(), i16::MAX.into()),
        ConfigType::Int => whole(i32::MIN.into(), i32::MAX.into()),
        ConfigType::Long => whole(i64::MIN, i64::MAX),
        ConfigType::Double => {
            let number = value.parse::<f64>().ok().filter(|number| !number.is_nan());
            let number = number.ok_or_else(|| format!("Not a number of type {config_type}"))?;
            match check {
                Check::Real(least, _) if number < least => {
                    Err(format!("Value must be at least {least}"))
                }
                Check::Real(_, most) if number > most => {
                    Err(format!("Value must be no more than {most}"))
                }
                _ => Ok(()),
            }
        }
        ConfigType::List | ConfigType::String | ConfigType::Class | ConfigType::Password => {
            text(check, value)
        }
    }
}

fn text(check: Check, value: &str) -> Result<(), String> {
    if value.chars().any(char::is_control) {
        return Err("Control characters are not allowed".to_string());
    }
    match check {
        Check::OneOf(allowed) if !allowed.contains(&value) => {
            Err(format!("String must be one of: {}", list(allowed)))
        }
        Check::AnyCaseOf(allowed) if !allowed.iter().any(|a| a.eq_ignore_ascii_case(value)) => {
            Err(format!(
                "String must be one of (case insensitive): {}",
                list(allowed)
            ))
        }
        Check::ListOf(allowed) => match entries(value).find(|word| !allowed.contains(word)) {
            Some(_) => Err(format!("String must be one of: {}", list(allowed))),
            None => Ok(()),
        },
        Check::Replicas => {
            let number = |text: &str| text.parse::<i32>().is_ok_and(|n| n >= 0);
            let replica = |word: &str| {
                word.split_once(':')
                    .is_some_and(|(p, b)| number(p) && number(b))
            };
            if value == "*" || words(value).all(replica) {
                Ok(())
            } else {
                Err(
                    "It must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                        .to_string(),
                )
            }
        }
        Check::ShareOffsetReset => match value.split_once(':') {
            None if matches!(value, "earliest" | "latest") => Ok(()),
            Some(("by_duration", duration)) if is_duration(duration) => Ok(()),
            // Kafka says what the value is for twice.
            _ => Err(format!(
                "Invalid value `{value}` for configuration share.auto.offset.reset. The value must be either 'earliest', \
                 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
            )),
        },
        _ => Ok(()),
    }
}

/// Whether a text is an ISO 8601 duration as Java's `Duration` reads them, and none that is negative: `PnDTnHnMn.nS`.
fn is_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['P', 'p']) else {
        return false;
    };
    let (days, time) = match rest.split_once(['T', 't']) {
        Some((days, time)) => (days, Some(time)),
        None => (rest, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !days.is_empty() && !days.strip_suffix(['D', 'd']).is_some_and(digits) {
        return false;
    }
    let Some(mut time) = time else {
        return !days.is_empty();
    };
    if time.is_empty() {
        return false;
    }
    for unit in [['H', 'h'], ['M', 'm']] {
        if let Some((number, rest)) = time.split_once(unit) {
            if !digits(number) {
                return false;
            }
            time = rest;
        }
    }
    time.is_empty()
        || time.strip_suffix(['S', 's']).is_some_and(|seconds| {
            let (whole, part) = seconds.split_once('.').unwrap_or((seconds, "0"));
            digits(whole) && digits(part) && part.len() <= 9
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no(config_type: ConfigType, check: Check, value: &str) -> String {
        super::check(config_type, check, value).unwrap_err()
    }

    #[test]
    fn values_are_checked_with_kafkas_words() {
        let yes = |config_type: ConfigType, check: Check, value: &str| {
            super::check(config_type, check, value).unwrap();
        };
        yes(ConfigType::Int, Check::AtLeast(1), "1");
        yes(ConfigType::Boolean, Check::Any, "TRUE");
        yes(ConfigType::Double, Check::Real(0.0, 1.0), "0.25");
        yes(ConfigType::Double, Check::Any, "1.7976931348623157E308");
        yes(ConfigType::List, Check::ListOf(&["a", "b"]), "b, a");
        yes(ConfigType::List, Check::ListOf(&["a", "b"]), "");
        for gap in [",", "a,", ",a", "a,,b"] {
            no(ConfigType::List, Check::ListOf(&["a", "b"]), gap);
        }
        yes(ConfigType::List, Check::Replicas, "0:1,1:2");
        yes(ConfigType::List, Check::Replicas, "*");
        yes(ConfigType::Int, Check::GzipLevel, "-1");
        for duration in ["PT1H", "P2D", "P1DT2H3M4.5S", "PT0S"] {
            yes(
                ConfigType::String,
                Check::ShareOffsetReset,
                &format!("by_duration:{duration}"),
            );
        }
        for duration in ["", "P", "PT", "1H", "PT1X", "PT-1H", "P1", "PT1.S"] {
            no(
                ConfigType::String,
                Check::ShareOffsetReset,
                &format!("by_duration:{duration}"),
            );
        }
        assert_eq!(
            no(ConfigType::Long, Check::Any, "x"),
            "Not a number of type LONG"
        );
        assert_eq!(
            no(ConfigType::Int, Check::Any, "2147483648"),
            "Not a number of type INT"
        );
        assert_eq!(
            no(ConfigType::Int, Check::AtLeast(1), "0"),
            "Value must be at least 1"
        );
        assert_eq!(
            no(ConfigType::Int, Check::Between(1, 17), "18"),
            "Value must be no more than 17"
        );
        assert_eq!(
            no(ConfigType::Double, Check::Real(0.0, 1.0), "2"),
            "Value must be no more than 1"
        );
        assert_eq!(
            no(ConfigType::Double, Check::Any, "NaN"),
            "Not a number of type DOUBLE"
        );
        assert_eq!(
            no(ConfigType::Int, Check::GzipLevel, "0"),
            "Value must be between 1 and 9 or equal to -1"
        );
        assert_eq!(
            no(ConfigType::String, Check::OneOf(&["a", "b"]), "c"),
            "String must be one of: a, b"
        );
        assert!(no(ConfigType::List, Check::Replicas, "zz").contains("[partitionId]:[brokerId]"));
        no(ConfigType::String, Check::Any, "two\nlines");
    }
}
