//! `bootstrap.servers`: which broker a program means.

use crate::{ErrCode, KafkaError};
use ottla_driver::Place;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Which broker, and the settings in the query, as names without prefix and values.
///
/// * `memory:` or `memory:NAME`: a broker in this process, gone with its last handle. The empty name is a name as any other.
/// * `file:///path/to/dir` (also `file:/path`, `file:relative`): a durable broker on a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The broker.
    pub(crate) place: Place,
    /// What stands behind `?`, decoded, in order.
    pub(crate) settings: Vec<(String, String)>,
}

impl Address {
    /// Reads `bootstrap.servers`.
    ///
    /// `file:` follows RFC 8089: `file:///dir`, `file://localhost/dir` and `file:/dir` are the same; a path without a leading slash is
    /// relative to the working directory. Percent-encoding is decoded in names, paths and settings.
    pub(crate) fn parse(text: &str) -> Result<Self, KafkaError> {
        let text = text.trim();
        let error = |message: String| Err(invalid(message));
        if text.is_empty() {
            return error(
                "bootstrap.servers is empty: name a broker, such as memory: (in this process) or file:///path/to/dir (durable)".into(),
            );
        }
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        let embedded = ["memory", "file"]
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(scheme));
        let Some(embedded) = embedded else {
            return error(format!(
                "bootstrap.servers={text}: connections over TCP come with a later version; this one has memory: (a broker in this \
                 process) and file:///path/to/dir (a durable broker on a directory)"
            ));
        };
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        let bad_escape = || {
            invalid(format!(
                "bootstrap.servers={text}: % has to be followed by two hexadecimal digits"
            ))
        };
        let not_text = |_| invalid(format!("bootstrap.servers={text}: not UTF-8 once decoded"));
        let decode = |part: &str| {
            String::from_utf8(percent_decode(part).ok_or_else(bad_escape)?).map_err(not_text)
        };
        let place = if embedded == "memory" {
            // `memory://name` is what some will write by habit.
            Place::Memory(decode(location.strip_prefix("//").unwrap_or(location))?)
        } else {
            let path = match location.strip_prefix("//") {
                Some(authority) => {
                    let path = authority.strip_prefix("localhost").unwrap_or(authority);
                    if !path.starts_with('/') {
                        return error(format!(
                            "bootstrap.servers={text}: the directory needs three slashes, as in file:///path/to/dir (what stands after \
                             two is a host name)"
                        ));
                    }
                    path
                }
                None => location,
            };
            if path.is_empty() {
                return error(format!("bootstrap.servers={text}: no directory"));
            }
            let path = percent_decode(path).ok_or_else(bad_escape)?;
            if path.contains(&0) {
                return error("bootstrap.servers: a path can't contain a zero byte".into());
            }
            Place::Directory(PathBuf::from(OsString::from_vec(path)))
        };
        let mut settings = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                invalid(format!(
                    "bootstrap.servers={text}: {pair} has no value (write {pair}=…)"
                ))
            })?;
            settings.push((decode(name)?, decode(value)?));
        }
        Ok(Self { place, settings })
    }
}

fn invalid(message: String) -> KafkaError {
    KafkaError::new(ErrCode::INVALID_ARG, message)
}

/// An address that leads to `place`.
pub(crate) fn text_of(place: &Place) -> String {
    let encoded = |bytes: &[u8]| {
        let mut text = String::new();
        for byte in bytes {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                    text.push(char::from(*byte))
                }
                byte => {
                    let _ = write!(text, "%{byte:02X}");
                }
            }
        }
        text
    };
    match place {
        Place::Memory(name) => format!("memory:{}", encoded(name.as_bytes())),
        Place::Directory(path) => format!("file://{}", encoded(path.as_os_str().as_bytes())),
    }
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Address::parse(text).unwrap().place
    }

    #[test]
    fn forms() {
        assert_eq!(place("memory:"), Place::Memory("".into()));
        assert_eq!(place(" MEMORY:orders "), Place::Memory("orders".into()));
        assert_eq!(place("memory:a%20b"), Place::Memory("a b".into()));
        let dir = Place::Directory("/var/lib/app".into());
        for text in [
            "file:///var/lib/app",
            "file:/var/lib/app",
            "file://localhost/var/lib/app",
            "FILE:///var/lib%2Fapp",
        ] {
            assert_eq!(place(text), dir, "{text}");
        }
        assert_eq!(place("file:data"), Place::Directory("data".into()));
        let with = Address::parse("file:///d?durability=os&num.partitions=4").unwrap();
        let expected = [("durability", "os"), ("num.partitions", "4")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(
            (with.place, with.settings),
            (Place::Directory("/d".into()), expected.to_vec())
        );
    }

    #[test]
    fn addresses_lead_back() {
        for at in [
            Place::Memory("a b/%?".into()),
            Place::Directory("/tmp/x y?/é".into()),
        ] {
            assert_eq!(place(&text_of(&at)), at);
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        for text in ["localhost:9092", "a:1,b:2", "broker"] {
            assert!(
                Address::parse(text).unwrap_err().message.contains("TCP"),
                "{text}"
            );
        }
        for text in [
            "",
            "file:",
            "file://",
            "file://dir",
            "memory:%zz",
            "memory:%f",
            "memory:?x",
            "file:///a%00b",
            "memory:%ff",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
