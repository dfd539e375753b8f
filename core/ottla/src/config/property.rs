//! What a row of the property table says, and how a value is read from text.

use super::ConfigError;
use std::fmt::Write;

/// A row of the table.
#[derive(Debug)]
pub struct Property {
    /// Its name.
    pub name: &'static str,
    /// Whether it is the handle's or a topic's.
    pub scope: Scope,
    /// Who uses it.
    pub applies_to: AppliesTo,
    /// What values it takes.
    pub kind: Kind,
    /// Its default as text; empty if it has none.
    pub default: &'static str,
    /// How likely an application needs it.
    pub importance: Importance,
    /// What setting it does in this version.
    pub effect: Effect,
    /// Old, and to be avoided.
    pub deprecated: bool,
    /// Settable, but not in the documentation (as in librdkafka).
    pub hidden: bool,
    /// What it is.
    pub doc: &'static str,
}

/// Whose property it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The handle's.
    Global,
    /// A topic's; set on the handle's configuration it is the default of all topics.
    Topic,
    /// The embedded broker's: only the handle that opens the broker can set it.
    Broker,
}

/// Which handles use a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppliesTo {
    /// All.
    Both,
    /// Consumers.
    Consumer,
    /// Producers.
    Producer,
}

impl AppliesTo {
    /// Whether a handle of this role uses it.
    pub fn includes(self, role: crate::Role) -> bool {
        match self {
            Self::Both => true,
            Self::Consumer => role == crate::Role::Consumer,
            Self::Producer => role == crate::Role::Producer,
        }
    }
}

/// What values a property takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A number from `min` to `max`. `words` may stand for numbers.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
        /// Words and their numbers.
        words: &'static [(&'static str, i64)],
    },
    /// A number that may have a fraction.
    Float {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// `true` or `false` (also `t`, `1`, `f`, `0`, in any case).
    Boolean,
    /// Any text.
    Text,
    /// One of some words, in any case. Words with the same second member mean the same; the first of them is its name.
    Choice(&'static [(&'static str, &'static str)]),
    /// Words separated by commas.
    Flags(&'static [&'static str]),
    /// Regular expressions separated by commas.
    Patterns,
    /// Another name of a property of the same scope.
    Alias(&'static str),
    /// Set by a function of its own, not by text.
    Function,
}

/// How likely an application needs a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// Likely.
    High,
    /// Perhaps.
    Medium,
    /// Hardly.
    Low,
}

/// What setting a property does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it says.
    Effective,
    /// It is checked and kept, but does nothing, for this reason.
    Kept(&'static str),
    /// As [`Effect::Kept`]; and who sets it finds a warning in the log, because he may rely on it.
    KeptWithWarning(&'static str),
    /// Setting it is an error, for this reason.
    Refused(&'static str),
}

impl Property {
    const fn new(name: &'static str, kind: Kind, default: &'static str) -> Self {
        Self {
            name,
            scope: Scope::Global,
            applies_to: AppliesTo::Both,
            kind,
            default,
            importance: Importance::Low,
            effect: Effect::Effective,
            deprecated: false,
            hidden: false,
            doc: "",
        }
    }

    pub(super) const fn integer(
        name: &'static str,
        min: i64,
        max: i64,
        default: &'static str,
    ) -> Self {
        Self::new(
            name,
            Kind::Integer {
                min,
                max,
                words: &[],
            },
            default,
        )
    }

    pub(super) const fn float(
        name: &'static str,
        min: f64,
        max: f64,
        default: &'static str,
    ) -> Self {
        Self::new(name, Kind::Float { min, max }, default)
    }

    pub(super) const fn boolean(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::Boolean, default)
    }

    pub(super) const fn text(name: &'static str, default: &'static str) -> Self {
        Self::new(name, Kind::Text, default)
    }

    pub(super) const fn choice(
        name: &'static str,
        words: &'static [(&'static str, &'static str)],
        default: &'static str,
    ) -> Self {
        Self::new(name, Kind::Choice(words), default)
    }

    pub(super) const fn flags(
        name: &'static str,
        words: &'static [&'static str],
        default: &'static str,
    ) -> Self {
        Self::new(name, Kind::Flags(words), default)
    }

    pub(super) const fn patterns(name: &'static str) -> Self {
        Self::new(name, Kind::Patterns, "")
    }

    pub(super) const fn alias(name: &'static str, of: &'static str) -> Self {
        Self::new(name, Kind::Alias(of), "")
    }

    pub(super) const fn function(name: &'static str) -> Self {
        Self::new(name, Kind::Function, "")
    }

    pub(super) const fn words(mut self, words: &'static [(&'static str, i64)]) -> Self {
        if let Kind::Integer { min, max, .. } = self.kind {
            self.kind = Kind::Integer { min, max, words };
        }
        self
    }

    pub(super) const fn topic(mut self) -> Self {
        self.scope = Scope::Topic;
        self
    }

    pub(super) const fn broker(mut self) -> Self {
        self.scope = Scope::Broker;
        self
    }

    pub(super) const fn consumer(mut self) -> Self {
        self.applies_to = AppliesTo::Consumer;
        self
    }

    pub(super) const fn producer(mut self) -> Self {
        self.applies_to = AppliesTo::Producer;
        self
    }

    pub(super) const fn high(mut self) -> Self {
        self.importance = Importance::High;
        self
    }

    pub(super) const fn medium(mut self) -> Self {
        self.importance = Importance::Medium;
        self
    }

    pub(super) const fn kept(mut self, reason: &'static str) -> Self {
        self.effect = Effect::Kept(reason);
        self
    }

    pub(super) const fn warned(mut self, reason: &'static str) -> Self {
        self.effect = Effect::KeptWithWarning(reason);
        self
    }

    pub(super) const fn refused(mut self, reason: &'static str) -> Self {
        self.effect = Effect::Refused(reason);
        self
    }

    pub(super) const fn deprecated(mut self) -> Self {
        self.deprecated = true;
        self
    }

    pub(super) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    pub(super) const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// Checks a value and brings it into the form in which it is kept and shown: numbers in decimal, booleans as `true` and
    /// `false`, words by their names.
    ///
    /// Numbers are read as C's `strtol` and `strtod` do, because librdkafka does so: `0x10` is 16, what follows a number is
    /// passed over.
    pub(super) fn normalize(&self, value: &str) -> Result<String, ConfigError> {
        let invalid = |text: String| Err(ConfigError::Invalid(text));
        let name = self.name;
        match self.kind {
            Kind::Text => Ok(value.to_owned()),
            Kind::Function => invalid(format!(
                "Property \"{name}\" can't be set by text: it has a function of its own"
            )),
            // Aliases are resolved before.
            Kind::Alias(_) => Ok(value.to_owned()),
            Kind::Boolean => match value.to_ascii_lowercase().as_str() {
                "true" | "t" | "1" => Ok("true".into()),
                "false" | "f" | "0" => Ok("false".into()),
                "" => invalid(format!(
                    "Bool configuration property \"{name}\" cannot be set to empty value"
                )),
                _ => invalid(format!("Expected bool value for \"{name}\": true or false")),
            },
            Kind::Integer { min, max, words } => {
                if value.is_empty() {
                    return invalid(format!(
                        "Integer configuration property \"{name}\" cannot be set to empty value"
                    ));
                }
                let word = words
                    .iter()
                    .find(|(word, _)| word.eq_ignore_ascii_case(value));
                let Some(number) = word
                    .map(|(_, number)| *number)
                    .or_else(|| leading_integer(value))
                else {
                    return invalid(format!(
                        "Invalid value for configuration property \"{name}\""
                    ));
                };
                if number < min || number > max {
                    return invalid(outside(name, number, min, max));
                }
                Ok(number.to_string())
            }
            Kind::Float { min, max } => {
                if value.is_empty() {
                    return invalid(format!(
                        "Float configuration property \"{name}\" cannot be set to empty value"
                    ));
                }
                let Some(number) = leading_float(value) else {
                    return invalid(format!(
                        "Invalid value for configuration property \"{name}\""
                    ));
                };
                if number.is_nan() || number < min || number > max {
                    return invalid(outside(name, number, min, max));
                }
                Ok(number.to_string())
            }
            Kind::Choice(words) => match words
                .iter()
                .find(|(word, _)| word.eq_ignore_ascii_case(value))
            {
                Some((_, canonical)) => Ok((*canonical).to_owned()),
                None => invalid(format!(
                    "Invalid value \"{value}\" for configuration property \"{name}\""
                )),
            },
            Kind::Flags(words) => {
                let mut flags: Vec<&str> = Vec::new();
                for flag in value
                    .split(',')
                    .map(str::trim)
                    .filter(|flag| !flag.is_empty())
                {
                    match words.iter().find(|word| word.eq_ignore_ascii_case(flag)) {
                        Some(word) if !flags.contains(word) => flags.push(word),
                        Some(_) => {}
                        None => {
                            let text = format!(
                                "Invalid value \"{flag}\" for configuration property \"{name}\""
                            );
                            return invalid(text);
                        }
                    }
                }
                Ok(flags.join(","))
            }
            Kind::Patterns => {
                for pattern in value.split(',').filter(|pattern| !pattern.is_empty()) {
                    if let Err(error) = regex_lite::Regex::new(pattern) {
                        return invalid(format!("Failed to parse pattern \"{pattern}\": {error}"));
                    }
                }
                Ok(value.to_owned())
            }
        }
    }

    /// The values it takes, for the documentation.
    pub(super) fn range(&self) -> String {
        match self.kind {
            Kind::Integer { min, max, words } => {
                let mut text = format!("{min} .. {max}");
                for (word, number) in words {
                    let _ = write!(text, ", {word} = {number}");
                }
                text
            }
            Kind::Float { min, max } => format!("{min} .. {max}"),
            Kind::Boolean => "true, false".into(),
            Kind::Choice(words) => words
                .iter()
                .map(|(word, _)| *word)
                .collect::<Vec<_>>()
                .join(", "),
            Kind::Flags(words) => words.join(", "),
            Kind::Text | Kind::Patterns | Kind::Alias(_) | Kind::Function => String::new(),
        }
    }

    /// What kind of value it is, for the documentation.
    pub(super) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Integer { .. } => "integer",
            Kind::Float { .. } => "float",
            Kind::Boolean => "boolean",
            Kind::Text => "string",
            Kind::Choice(_) => "enum value",
            Kind::Flags(_) => "CSV flags",
            Kind::Patterns => "pattern list",
            Kind::Alias(_) => "alias",
            Kind::Function => "see dedicated API",
        }
    }
}

fn outside(
    name: &str,
    value: impl std::fmt::Display,
    min: impl std::fmt::Display,
    max: impl std::fmt::Display,
) -> String {
    format!("Configuration property \"{name}\" value {value} is outside allowed range {min}..{max}")
}

/// The integer that `text` begins with, as C's `strtol` with base 0 reads it; `None` if it begins with none.
fn leading_integer(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let hexadecimal = digits
        .get(..2)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("0x"))
        && digits.as_bytes().get(2).is_some_and(u8::is_ascii_hexdigit);
    let (radix, digits) = match hexadecimal {
        true => (16, &digits[2..]),
        false if digits.starts_with('0') => (8, digits),
        false => (10, digits),
    };
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    // Too many digits are out of every range.
    let number = i64::from_str_radix(&digits[..end], radix).unwrap_or(i64::MAX);
    Some(if negative { -number } else { number })
}

/// The number that `text` begins with, as C's `strtod` reads it (without its hexadecimal and special forms).
fn leading_float(text: &str) -> Option<f64> {
    let text = text.trim_start();
    (1..=text.len())
        .rev()
        .filter(|end| text.is_char_boundary(*end))
        .map(|end| &text[..end])
        .filter(|number| {
            number
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
        })
        .find_map(|number| number.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        let cases = [
            ("5", Some(5)),
            ("+5", Some(5)),
            ("-7x", Some(-7)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("10k", Some(10)),
        ];
        for (text, number) in cases {
            assert_eq!(leading_integer(text), number, "{text}");
        }
        assert_eq!(
            (
                leading_integer("x"),
                leading_integer("-"),
                leading_integer("0x")
            ),
            (None, None, Some(0))
        );
        assert_eq!(leading_integer("99999999999999999999"), Some(i64::MAX));
        assert_eq!(
            (
                leading_float("1.5"),
                leading_float("1e2"),
                leading_float("5 ")
            ),
            (Some(1.5), Some(100.0), Some(5.0))
        );
        assert_eq!(
            (
                leading_float("abc"),
                leading_float("nan"),
                leading_float("é")
            ),
            (None, None, None)
        );
    }

    #[test]
    fn values_are_checked_and_shown_in_one_form() {
        let flag = Property::boolean("b", "true");
        for (value, shown) in [
            ("TRUE", "true"),
            ("t", "true"),
            ("1", "true"),
            ("F", "false"),
            ("0", "false"),
        ] {
            assert_eq!(flag.normalize(value).unwrap(), shown);
        }
        assert!(
            ["yes", "", " true"]
                .iter()
                .all(|value| flag.normalize(value).is_err())
        );
        let number = Property::integer("n", -1, 1000, "-1").words(&[("all", -1)]);
        assert_eq!(number.normalize("ALL").unwrap(), "-1");
        let error = number.normalize("1001").unwrap_err().to_string();
        assert_eq!(
            error,
            "Configuration property \"n\" value 1001 is outside allowed range -1..1000"
        );
        let flags = Property::flags("d", &["msg", "broker"], "");
        assert_eq!(flags.normalize("MSG, broker,").unwrap(), "msg,broker");
        assert!(flags.normalize("msg,foo").is_err());
    }
}
