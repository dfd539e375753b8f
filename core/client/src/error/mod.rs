//! Errors with librdkafka's numbers and names.

mod codes;

use alloc::borrow::Cow;
use core::fmt;
use ottla_protocol::ErrorCode;

/// The number of an error as `rd_kafka_resp_err_t` has it: Kafka's own codes from -1 up, and librdkafka's local errors
/// from -199 to -137, here without the leading underscore of their names (`ErrCode::MSG_TIMED_OUT` is `_MSG_TIMED_OUT`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ErrCode(pub i32);

impl ErrCode {
    /// librdkafka's name without its prefix: `"_TIMED_OUT"`, `"UNKNOWN_TOPIC_OR_PART"`; `None` for an unknown number.
    pub fn name(self) -> Option<&'static str> {
        self.entry().map(|e| e.1)
    }

    /// What the error means, in a phrase; `None` for an unknown number.
    pub fn description(self) -> Option<&'static str> {
        self.entry().map(|e| e.2)
    }

    /// Whether the client raised it itself, rather than a broker.
    pub fn is_local(self) -> bool {
        self.0 < -1
    }

    /// Whether a broker's error of this kind passes, so that the same request may succeed later.
    pub fn is_retriable(self) -> bool {
        match self {
            Self::TRANSPORT
            | Self::TIMED_OUT
            | Self::TIMED_OUT_QUEUE
            | Self::ALL_BROKERS_DOWN
            | Self::WAIT_COORD
            | Self::RETRY => true,
            Self(n) if n < -1 => false,
            _ => codes::RETRIABLE.contains(&self.0),
        }
    }

    /// All known errors in ascending order: number, name, description.
    pub fn all() -> impl Iterator<Item = (ErrCode, &'static str, &'static str)> {
        codes::TABLE
            .iter()
            .map(|&(number, name, meaning)| (Self(number), name, meaning))
    }

    fn entry(self) -> Option<&'static (i32, &'static str, &'static str)> {
        codes::TABLE
            .binary_search_by_key(&self.0, |e| e.0)
            .ok()
            .map(|i| &codes::TABLE[i])
    }
}

impl From<ErrorCode> for ErrCode {
    fn from(code: ErrorCode) -> Self {
        Self(code.0.into())
    }
}

impl fmt::Display for ErrCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "ERR_{}?", self.0),
        }
    }
}

impl fmt::Debug for ErrCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An error as the application sees it: librdkafka's code, a message, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaError {
    /// librdkafka's number.
    pub code: ErrCode,
    /// What went wrong here, for people.
    pub message: Cow<'static, str>,
    /// The client instance is of no more use.
    pub fatal: bool,
    /// The same call may succeed later.
    pub retriable: bool,
    /// The transaction under way can only be aborted.
    pub txn_requires_abort: bool,
}

impl KafkaError {
    /// An error with a message of its own.
    pub fn new(code: ErrCode, message: impl Into<Cow<'static, str>>) -> Self {
        let retriable = code.is_retriable();
        Self {
            code,
            message: message.into(),
            fatal: false,
            retriable,
            txn_requires_abort: false,
        }
    }

    /// The same error, fatal for the client instance.
    #[must_use]
    pub fn into_fatal(self) -> Self {
        Self {
            fatal: true,
            retriable: false,
            ..self
        }
    }
}

/// An error whose message is its code's description.
impl From<ErrCode> for KafkaError {
    fn from(code: ErrCode) -> Self {
        Self::new(
            code,
            code.description()
                .unwrap_or("An error that this version does not know"),
        )
    }
}

/// A broker's error with the code's description.
impl From<ErrorCode> for KafkaError {
    fn from(code: ErrorCode) -> Self {
        ErrCode::from(code).into()
    }
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl core::error::Error for KafkaError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_table_is_sorted_and_named() {
        assert!(codes::TABLE.windows(2).all(|w| w[0].0 < w[1].0));
        assert_eq!(ErrCode::MSG_TIMED_OUT.0, -192);
        assert_eq!(ErrCode::MSG_TIMED_OUT.name(), Some("_MSG_TIMED_OUT"));
        assert_eq!(ErrCode(3).name(), Some("UNKNOWN_TOPIC_OR_PART"));
        assert_eq!(ErrCode(98).name(), None);
        assert_eq!(ErrCode(98).to_string(), "ERR_98?");
        assert_eq!(ErrCode::all().count(), 63 + 125);
    }

    #[test]
    fn retriable_or_not() {
        assert!(KafkaError::from(ErrCode::TRANSPORT).retriable);
        assert!(!KafkaError::from(ErrCode::MSG_TIMED_OUT).retriable);
        assert!(!KafkaError::from(ErrCode::FENCED).into_fatal().retriable);
    }
}
