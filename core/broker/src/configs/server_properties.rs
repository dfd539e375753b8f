//! A broker's configuration as `server.properties` has it: names and values, listeners and sockets included.

use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};

use ottla_protocol::Str;

use super::{
    binding,
    row::{Effect, words},
    rows::{BROKER_ROWS, broker_row},
};
use crate::{BrokerConfig, config::DEDUPE_BUFFER};

/// A setting that can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Its name.
    pub key: String,
    /// What it was given.
    pub value: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Invalid value {} for configuration {}: {}",
            self.value, self.key, self.why
        )
    }
}

impl core::error::Error for ConfigError {}

/// A setting that was given and does nothing here; something to tell whoever gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// Its name.
    pub key: &'static str,
    /// Why it does nothing.
    pub why: String,
}

/// An entry of `listeners` or `advertised.listeners`: NAME://HOST:PORT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, in capital letters.
    pub name: Str,
    /// Name or address (IPv6 without brackets); empty means all interfaces.
    pub host: Str,
    /// 0 is a free one.
    pub port: u16,
}

/// What the sockets in front of a broker need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// `listeners` without those that only a controller has; empty if neither it nor `advertised.listeners` was given.
    pub listeners: Vec<Listener>,
    /// `advertised.listeners`; empty if it wasn't given.
    pub advertised: Vec<Listener>,
    /// `log.dirs` or `log.dir`, if one was given.
    pub log_dir: Option<Str>,
    /// `num.network.threads`, 1 or more.
    pub network_threads: usize,
    /// `socket.send.buffer.bytes`; `None` (-1) leaves it to the operating system.
    pub send_buffer_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes`; `None` (-1) leaves it to the operating system.
    pub receive_buffer_bytes: Option<usize>,
    /// `socket.request.max.bytes`: a larger request ends its connection.
    pub request_max_bytes: usize,
    /// `queued.max.request.bytes`; negative: no limit.
    pub queued_max_request_bytes: i64,
    /// `socket.listen.backlog.size`.
    pub listen_backlog: i32,
    /// `connections.max.idle.ms`; negative: an idle connection stays.
    pub connections_max_idle_ms: i64,
    /// `max.connections`.
    pub max_connections: usize,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`: address or name, and its limit.
    pub max_connections_per_ip_overrides: Vec<(Str, usize)>,
    /// `max.connection.creation.rate`: new connections in a second.
    pub max_connection_creation_rate: u32,
}

impl ListenerSettings {
    /// The address that clients of a listener are told, if it was given.
    pub fn advertised(&self, name: &str) -> Option<&Listener> {
        self.advertised
            .iter()
            .find(|listener| *listener.name == *name)
    }
}

impl Default for ListenerSettings {
    /// The table's defaults.
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            advertised: Vec::new(),
            log_dir: None,
            network_threads: 3,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            request_max_bytes: 104_857_600,
            queued_max_request_bytes: 256 << 20,
            listen_backlog: 1024,
            connections_max_idle_ms: 600_000,
            max_connections: i32::MAX as usize,
            max_connections_per_ip: i32::MAX as usize,
            max_connections_per_ip_overrides: Vec::new(),
            max_connection_creation_rate: i32::MAX as u32,
        }
    }
}

/// A `server.properties` that was understood.
#[derive(Clone, Debug)]
pub struct ServerProperties {
    /// For [`crate::Broker::open`]. What was given is in its `properties`.
    pub broker: BrokerConfig,
    /// For the sockets.
    pub sockets: ListenerSettings,
    /// What was given and does nothing.
    pub unused: Vec<Unused>,
}

impl ServerProperties {
    /// Reads settings in Kafka's names. Of a name that is given more than once the last counts. BROKER_CONFIGURATION.md lists them.
    ///
    /// # Errors
    /// An unknown name, a value that its setting can't have, or a setting that is refused: the error says what is allowed.
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ConfigError> {
        let mut given: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, value) in pairs {
            given.insert(key.trim(), value.trim());
        }
        let mut read = Self {
            broker: BrokerConfig::default(),
            sockets: ListenerSettings::default(),
            unused: Vec::new(),
        };
        for (&key, &value) in &given {
            read.one(key, value)?;
        }
        // What stands in for another setting comes first, so that the other one counts.
        let mut in_order: Vec<(&str, &str)> = given.iter().map(|(k, v)| (*k, *v)).collect();
        in_order.sort_by_key(|(key, _)| rank(key));
        for (key, value) in in_order {
            let Some(row) = broker_row(key) else { continue };
            let set = binding::set(&mut read.broker, row, value);
            set.map_err(|why| error(key, value, why))?;
        }
        read.sockets(&given)?;
        read.check(&given)?;
        read.broker.properties = given
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        Ok(read)
    }

    fn one(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(row) = broker_row(key) else {
            return Err(error(key, value, why_unknown(key)));
        };
        row.check(value).map_err(|why| error(key, value, why))?;
        let is_default = row.default == Some(value)
            || row.kafka_default == Some(Some(value))
            || (value.is_empty() && row.default.is_none());
        match row.effect {
            Effect::Refused(why) if !is_default => Err(error(
                key,
                value,
                match row.default {
                    Some(default) if !default.is_empty() => {
                        format!("{why}; leave it out, or set it to {default}")
                    }
                    _ => format!("{why}; leave it out"),
                },
            )),
            Effect::Without(why) if !is_default => {
                let why = why.to_string();
                self.unused.push(Unused { key: row.name, why });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn sockets(&mut self, given: &BTreeMap<&str, &str>) -> Result<(), ConfigError> {
        let sockets = &mut self.sockets;
        let text = |key: &'static str| given.get(key).copied().unwrap_or_default();
        fn number<N: FromStr + TryFrom<i64>>(
            given: &BTreeMap<&str, &str>,
            key: &'static str,
            into: &mut N,
        ) {
            let value = given.get(key).and_then(|value| value.parse::<i64>().ok());
            if let Some(value) = value.and_then(|value| N::try_from(value).ok()) {
                *into = value;
            }
        }
        number(given, "num.network.threads", &mut sockets.network_threads);
        number(
            given,
            "socket.request.max.bytes",
            &mut sockets.request_max_bytes,
        );
        number(
            given,
            "queued.max.request.bytes",
            &mut sockets.queued_max_request_bytes,
        );
        number(
            given,
            "socket.listen.backlog.size",
            &mut sockets.listen_backlog,
        );
        number(
            given,
            "connections.max.idle.ms",
            &mut sockets.connections_max_idle_ms,
        );
        number(given, "max.connections", &mut sockets.max_connections);
        number(
            given,
            "max.connections.per.ip",
            &mut sockets.max_connections_per_ip,
        );
        number(
            given,
            "max.connection.creation.rate",
            &mut sockets.max_connection_creation_rate,
        );
        for (key, buffer) in [
            ("socket.send.buffer.bytes", &mut sockets.send_buffer_bytes),
            (
                "socket.receive.buffer.bytes",
                &mut sockets.receive_buffer_bytes,
            ),
        ] {
            match given.get(key).map(|value| value.parse::<i32>()) {
                Some(Ok(-1)) => *buffer = None,
                Some(Ok(bytes)) if bytes > 0 => *buffer = Some(bytes as usize),
                Some(_) => {
                    return Err(error(
                        key,
                        text(key),
                        "Value must be -1 or at least 1".to_owned(),
                    ));
                }
                None => {}
            }
        }
        let key = "max.connections.per.ip.overrides";
        for word in words(text(key)) {
            let limit = word
                .rsplit_once(':')
                .and_then(|(host, limit)| Some((unbracketed(host), limit.parse::<u32>().ok()?)));
            let Some((host, limit)) = limit.filter(|(host, _)| !host.is_empty()) else {
                let why = "it must be a list of ADDRESS:LIMIT with commas between";
                return Err(error(key, text(key), why.to_owned()));
            };
            let limits = &mut sockets.max_connections_per_ip_overrides;
            limits.push((host.into(), limit as usize));
        }
        let dirs = match text("log.dirs") {
            "" => ("log.dir", text("log.dir")),
            dirs => ("log.dirs", dirs),
        };
        let mut all = words(dirs.1);
        sockets.log_dir = all.next().map(Str::from);
        if all.next().is_some() {
            let why = "there is one data directory: name one";
            return Err(error(dirs.0, dirs.1, why.to_owned()));
        }
        self.listeners(given)
    }

    fn listeners(&mut self, given: &BTreeMap<&str, &str>) -> Result<(), ConfigError> {
        let text = |key: &'static str| given.get(key).copied().unwrap_or_default();
        let protocols = "listener.security.protocol.map";
        let map = match given.get(protocols) {
            Some(map) => map,
            None => broker_row(protocols)
                .and_then(|row| row.default)
                .unwrap_or_default(),
        };
        let mut by_name: BTreeMap<String, String> = BTreeMap::new();
        for word in words(map) {
            let Some((name, protocol)) = word.split_once(':') else {
                let why = "it must be a list of LISTENER:PROTOCOL with commas between";
                return Err(error(protocols, map, why.to_owned()));
            };
            by_name.insert(name.to_ascii_uppercase(), protocol.to_ascii_uppercase());
        }
        let controllers: Vec<String> = words(text("controller.listener.names"))
            .map(str::to_ascii_uppercase)
            .collect();
        for key in ["listeners", "advertised.listeners"] {
            let value = match text(key) {
                // What is advertised is then the address of the default one.
                "" if key == "listeners" && !text("advertised.listeners").is_empty() => {
                    broker_row(key)
                        .and_then(|row| row.default)
                        .unwrap_or_default()
                }
                value => value,
            };
            let mut entries: Vec<Listener> = Vec::new();
            for word in words(value) {
                let listener = listener(word).map_err(|why| error(key, value, why))?;
                if controllers.iter().any(|name| *listener.name == **name) {
                    continue;
                }
                match by_name.get(&*listener.name).map(String::as_str) {
                    Some("PLAINTEXT") => {}
                    Some(protocol @ ("SSL" | "SASL_PLAINTEXT" | "SASL_SSL")) => {
                        let why = format!("{protocol}: security is not there yet; use PLAINTEXT");
                        return Err(error(key, value, why));
                    }
                    Some(protocol) => {
                        let why = format!("No security protocol {protocol}; there is PLAINTEXT");
                        return Err(error(protocols, map, why));
                    }
                    None => {
                        let why = format!(
                            "No security protocol defined for listener {}: name it in {protocols}",
                            listener.name
                        );
                        return Err(error(key, value, why));
                    }
                }
                if entries.iter().any(|other| other.name == listener.name) {
                    let why = "Each listener must have a different name";
                    return Err(error(key, value, why.to_owned()));
                }
                let taken = |other: &Listener| {
                    key == "listeners"
                        && listener.port != 0
                        && other.port == listener.port
                        && (other.host == listener.host
                            || other.host.is_empty()
                            || listener.host.is_empty())
                };
                if entries.iter().any(taken) {
                    let why = "Each listener must have a different port";
                    return Err(error(key, value, why.to_owned()));
                }
                if key == "advertised.listeners"
                    && (listener.host.is_empty() || matches!(&*listener.host, "0.0.0.0" | "::"))
                {
                    let why =
                        "clients need an address that leads here, not the one for all interfaces";
                    return Err(error(key, value, why.to_owned()));
                }
                entries.push(listener);
            }
            if entries.is_empty() && !value.is_empty() {
                let why = "there must be a listener that is not in controller.listener.names";
                return Err(error(key, value, why.to_owned()));
            }
            match key {
                "listeners" => self.sockets.listeners = entries,
                _ => self.sockets.advertised = entries,
            }
        }
        let known = &self.sockets.listeners;
        let lost =
            self.sockets.advertised.iter().find(|a| {
                !known.is_empty() && !known.iter().any(|listener| listener.name == a.name)
            });
        match lost {
            Some(lost) => Err(error(
                "advertised.listeners",
                text("advertised.listeners"),
                format!("{} is not in listeners", lost.name),
            )),
            None => Ok(()),
        }
    }

    /// What must hold between settings.
    fn check(&self, given: &BTreeMap<&str, &str>) -> Result<(), ConfigError> {
        let text = |key: &'static str| given.get(key).copied().unwrap_or_default();
        let roles = text("process.roles");
        if !roles.is_empty() && !words(roles).any(|role| role == "broker") {
            let why = "broker must be among it";
            return Err(error("process.roles", roles, why.to_owned()));
        }
        if let (Some(broker), Some(node)) = (given.get("broker.id"), given.get("node.id"))
            && broker != node
            && *broker != "-1"
        {
            let why = format!("it must be that of node.id, {node}");
            return Err(error("broker.id", broker, why));
        }
        if self.broker.node_id < 0 {
            return Err(error(
                "broker.id",
                text("broker.id"),
                "Value must be at least 0".to_owned(),
            ));
        }
        let groups = &self.broker.groups;
        if groups.min_session_timeout_ms > groups.max_session_timeout_ms {
            let key = "group.min.session.timeout.ms";
            let why = format!(
                "it must not be above group.max.session.timeout.ms, {}",
                groups.max_session_timeout_ms
            );
            return Err(error(key, &groups.min_session_timeout_ms.to_string(), why));
        }
        let number = |key: &str| {
            let given = given.get(key).copied();
            given.or(broker_row(key)?.default)?.parse::<i64>().ok()
        };
        super::groups::check_of_all(&number).map_err(|(key, why)| {
            let value = number(&key).unwrap_or_default().to_string();
            error(&key, &value, why)
        })?;
        if given.contains_key(DEDUPE_BUFFER) {
            let threads = given.get("log.cleaner.threads").copied();
            let checked = self.broker.check_dedupe_buffer(threads);
            checked.map_err(|why| error(DEDUPE_BUFFER, text(DEDUPE_BUFFER), why))?;
        }
        let topics = &self.broker.topic_defaults;
        topics.check().map_err(|why| {
            let value = topics.min_compaction_lag_ms.to_string();
            error("log.cleaner.min.compaction.lag.ms", &value, why)
        })
    }
}

fn error(key: &str, value: &str, why: String) -> ConfigError {
    // A secret is not repeated.
    let secret = broker_row(key).is_some_and(|row| row.config_type == super::ConfigType::Password);
    ConfigError {
        key: key.to_owned(),
        value: if secret {
            "[hidden]".to_owned()
        } else {
            value.to_owned()
        },
        why,
    }
}

/// Settings of larger units come first.
fn rank(key: &str) -> u8 {
    match key {
        "broker.id" | "log.flush.scheduler.interval.ms" => 0,
        _ if key.ends_with(".hours") => 0,
        _ if key.ends_with(".minutes") => 1,
        _ => 2,
    }
}

/// What to say of a name that no setting has: which one may be meant, where that can be guessed.
pub fn why_unknown(key: &str) -> String {
    if key.starts_with("zookeeper.") {
        return "there is no ZooKeeper; leave it out".to_owned();
    }
    if key.starts_with("listener.name.") {
        return "settings of single listeners are for security, which is not there yet".to_owned();
    }
    let near = BROKER_ROWS
        .iter()
        .find(|row| {
            squeezed(row.name).eq(squeezed(key)) || row.name.strip_prefix("log.") == Some(key)
        })
        .map(|row| format!("; did you mean {}?", row.name));
    format!(
        "no such setting; BROKER_CONFIGURATION.md lists them{}",
        near.unwrap_or_default()
    )
}

/// The letters of a name.
fn squeezed(name: &str) -> impl Iterator<Item = char> {
    name.chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn listener(text: &str) -> Result<Listener, String> {
    let shape = || format!("{text} is not NAME://HOST:PORT");
    let (name, address) = text.split_once("://").ok_or_else(shape)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(shape)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(shape());
    }
    let bare = unbracketed(host);
    if bare.contains(['/', ' ', '[', ']']) || (bare == host && host.contains(':')) {
        return Err(shape());
    }
    Ok(Listener {
        name: name.to_ascii_uppercase().into(),
        host: bare.into(),
        port: port.parse().map_err(|_| shape())?,
    })
}

/// The names and values of a file in Java's format of properties: `#` and `!` begin comments, `=`, `:` or blanks end a name, a
/// backslash goes on with the next line, or stands before what it takes the meaning of.
///
/// # Errors
/// The number of a line, from 1 on, with an escape that can't be read.
pub fn read_properties(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut all = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        // An odd number of backslashes at the end: the line goes on.
        while whole.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1 {
            whole.pop();
            match lines.next() {
                Some((_, more)) => whole.push_str(more.trim_start()),
                None => break,
            }
        }
        let (key, value) = split(&whole);
        let unescape = |text| unescaped(text).ok_or(number + 1);
        all.push((unescape(key)?, unescape(value)?));
    }
    Ok(all)
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && matches!(c, '=' | ':' | ' ' | '\t' | '\x0c');
        escaped = !escaped && *c == '\\';
        ends
    });
    let Some((end, _)) = end else {
        return (line, "");
    };
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches([' ', '\t', '\x0c']);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches([' ', '\t', '\x0c']))
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\x0c'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                out.push(
                    code.filter(|_| digits.len() == 4)
                        .and_then(char::from_u32)?,
                );
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, configs::ConfigType};
    use std::vec;

    fn parse(text: &str) -> Result<ServerProperties, ConfigError> {
        let pairs = read_properties(text).unwrap();
        ServerProperties::parse(pairs.iter().map(|(k, v)| (&**k, &**v)))
    }

    fn no(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_kraft_server_properties_is_taken() {
        let text = "\
# as a single Kafka 4 has it
process.roles=broker,controller
node.id=7
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL
num.network.threads=5
num.io.threads=8
socket.send.buffer.bytes=-1
socket.request.max.bytes=1000000
log.dirs=/tmp/data
num.partitions=3
offsets.topic.replication.factor=1
log.retention.hours=100
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";
        let read = parse(text).unwrap();
        let host = |name: &str, host: &str, port| Listener {
            name: name.into(),
            host: host.into(),
            port,
        };
        assert_eq!(read.sockets.listeners, [host("PLAINTEXT", "", 9092)]);
        assert_eq!(
            read.sockets.advertised("PLAINTEXT"),
            Some(&host("PLAINTEXT", "localhost", 9092))
        );
        assert_eq!(read.sockets.log_dir.as_deref(), Some("/tmp/data"));
        assert_eq!(
            (
                read.sockets.network_threads,
                read.sockets.send_buffer_bytes,
                read.sockets.request_max_bytes
            ),
            (5, None, 1_000_000)
        );
        assert_eq!((read.broker.node_id, read.broker.num_partitions), (7, 3));
        assert_eq!(read.broker.topic_defaults.retention_ms, 360_000_000);
        let unused: Vec<&str> = read.unused.iter().map(|u| u.key).collect();
        assert_eq!(
            unused,
            [
                "controller.quorum.bootstrap.servers",
                "inter.broker.listener.name",
                "offsets.topic.replication.factor"
            ]
        );
        assert_eq!(
            read.broker
                .properties
                .get("num.partitions")
                .map(String::as_str),
            Some("3")
        );
    }

    #[test]
    fn the_smaller_unit_and_the_later_line_count() {
        let read =
            parse("log.retention.ms=5\nlog.retention.hours=1\nlog.retention.minutes=2").unwrap();
        assert_eq!(read.broker.topic_defaults.retention_ms, 5);
        let read = parse("log.retention.hours=1\nlog.retention.minutes=2").unwrap();
        assert_eq!(read.broker.topic_defaults.retention_ms, 120_000);
        let read = parse("log.flush.scheduler.interval.ms=9\nlog.flush.interval.ms=8").unwrap();
        assert_eq!(read.broker.topic_defaults.flush_ms, 8);
        let read = parse("num.partitions=2\nnum.partitions=4\ndurability=os").unwrap();
        assert_eq!(
            (read.broker.num_partitions, read.broker.durability),
            (4, Durability::Os)
        );
        assert_eq!(parse("broker.id=3").unwrap().broker.node_id, 3);
    }

    #[test]
    fn every_setting_takes_its_default() {
        for row in BROKER_ROWS {
            for default in [row.default, row.kafka_default.flatten()]
                .into_iter()
                .flatten()
            {
                let read = ServerProperties::parse([(row.name, default)]);
                let read = read.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(read.unused, [], "{}", row.name);
            }
            if let Effect::Refused(why) = row.effect {
                let other = match row.config_type {
                    ConfigType::Boolean if row.default == Some("true") => "false",
                    ConfigType::Boolean => "true",
                    ConfigType::Double => "0.125",
                    ConfigType::Int | ConfigType::Long | ConfigType::Short => "61",
                    _ => continue,
                };
                let error = ServerProperties::parse([(row.name, other)]).unwrap_err();
                assert!(error.why.contains(why), "{error}");
            }
        }
    }

    #[test]
    fn what_is_advertised_without_listeners_is_the_default_one() {
        let read = parse("advertised.listeners=PLAINTEXT://elsewhere:19092").unwrap();
        let [listener] = &read.sockets.listeners[..] else {
            panic!("{:?}", read.sockets.listeners);
        };
        assert_eq!((&*listener.host, listener.port), ("127.0.0.1", 9092));
        let advertised = read.sockets.advertised(&listener.name).unwrap();
        assert_eq!((&*advertised.host, advertised.port), ("elsewhere", 19092));
        assert!(parse("").unwrap().sockets.listeners.is_empty());
    }

    #[test]
    fn what_cannot_be_says_what_can() {
        assert_eq!(
            no("num.partitions=0"),
            "Invalid value 0 for configuration num.partitions: Value must be at least 1"
        );
        assert!(no("numPartitions=1").ends_with("did you mean num.partitions?"));
        assert!(no("retention.ms=1").ends_with("did you mean log.retention.ms?"));
        assert!(no("zookeeper.connect=z:2181").contains("no ZooKeeper"));
        assert!(no("ssl.keystore.location=/k").contains("security is not there yet; leave it out"));
        assert!(!no("ssl.keystore.password=geheim").contains("geheim"));
        assert!(no("authorizer.class.name=A").contains("security"));
        assert!(no("remote.log.storage.system.enable=true").contains("tiered storage"));
        assert!(no("listeners=SASL_SSL://:9092").contains("use PLAINTEXT"));
        assert!(
            no("listeners=INNER://:9092")
                .contains("No security protocol defined for listener INNER")
        );
        assert!(no("listeners=PLAINTEXT:9092").contains("NAME://HOST:PORT"));
        assert!(no("listeners=PLAINTEXT://h:99999").contains("NAME://HOST:PORT"));
        assert!(no("listeners=PLAINTEXT://:1,PLAINTEXT://:2").contains("different name"));
        assert!(
            no("listeners=PLAINTEXT://:1,B://:1\nlistener.security.protocol.map=B:PLAINTEXT,PLAINTEXT:PLAINTEXT")
                .contains("different port")
        );
        assert!(no("advertised.listeners=PLAINTEXT://0.0.0.0:1").contains("all interfaces"));
        // Without listeners there is the default one.
        assert!(no("advertised.listeners=INNER://h:1\nlistener.security.protocol.map=INNER:PLAINTEXT,PLAINTEXT:PLAINTEXT").contains("INNER is not in listeners"));
        assert!(
            no("listeners=C://:1\ncontroller.listener.names=C")
                .contains("controller.listener.names")
        );
        assert!(no("log.dirs=/a,/b").contains("one data directory"));
        assert!(no("log.cleaner.dedupe.buffer.size=1048576").contains("at least 1MB"));
        assert!(
            no("log.cleaner.dedupe.buffer.size=4000000\nlog.cleaner.threads=4")
                .contains("at least 1MB")
        );
        assert!(no("process.roles=controller").contains("broker must be among it"));
        assert!(no("broker.id=1\nnode.id=2").contains("node.id, 2"));
        assert!(no("socket.send.buffer.bytes=0").contains("-1 or at least 1"));
        assert!(no("max.connections.per.ip.overrides=a").contains("ADDRESS:LIMIT"));
        assert!(
            no("log.cleaner.min.compaction.lag.ms=5\nlog.cleaner.max.compaction.lag.ms=4")
                .contains("conflict")
        );
        assert!(
            no("group.min.session.timeout.ms=9\ngroup.max.session.timeout.ms=8")
                .contains("must not be above")
        );
    }

    #[test]
    fn times_of_groups_fit_their_bounds() {
        for (text, key) in [
            (
                "group.consumer.session.timeout.ms=44999",
                "group.consumer.session.timeout.ms",
            ),
            (
                "group.share.session.timeout.ms=60001",
                "group.share.session.timeout.ms",
            ),
            (
                "group.consumer.heartbeat.interval.ms=4999",
                "group.consumer.heartbeat.interval.ms",
            ),
            (
                "group.share.min.heartbeat.interval.ms=15001",
                "group.share.max.heartbeat.interval.ms",
            ),
            (
                "group.share.delivery.count.limit=5\ngroup.share.max.delivery.count.limit=5\ngroup.share.min.delivery.count.limit=5",
                "",
            ),
            (
                "group.consumer.min.session.timeout.ms=6000\ngroup.consumer.session.timeout.ms=6000",
                "",
            ),
            (
                "group.consumer.min.session.timeout.ms=5000\ngroup.consumer.session.timeout.ms=5000",
                "group.consumer.heartbeat.interval.ms",
            ),
            (
                "group.streams.num.standby.replicas=3",
                "group.streams.num.standby.replicas",
            ),
        ] {
            let refused = parse(text).err().map(|error| error.key);
            assert_eq!(refused.unwrap_or_default(), key, "{text}");
        }
    }

    #[test]
    fn sockets() {
        let read = parse(
            "listeners=plaintext://[::1]:0\nmax.connections=7\nmax.connections.per.ip=3\n\
             max.connections.per.ip.overrides=10.0.0.1:5,[::1]:6\nmax.connection.creation.rate=9\n\
             connections.max.idle.ms=-1\nsocket.listen.backlog.size=8\nsocket.receive.buffer.bytes=4096",
        )
        .unwrap()
        .sockets;
        let expected = ListenerSettings {
            listeners: vec![Listener {
                name: "PLAINTEXT".into(),
                host: "::1".into(),
                port: 0,
            }],
            max_connections: 7,
            max_connections_per_ip: 3,
            max_connections_per_ip_overrides: vec![("10.0.0.1".into(), 5), ("::1".into(), 6)],
            max_connection_creation_rate: 9,
            connections_max_idle_ms: -1,
            listen_backlog: 8,
            receive_buffer_bytes: Some(4096),
            ..ListenerSettings::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn javas_properties() {
        let text =
            "a=1\n  b : 2 \n! no\n# no\n\nc 3\nd=x\\\n   y\ne\\=f=g\\\\\nh=\\u00e9\\t|\nlast";
        let expected = [
            ("a", "1"),
            ("b", "2 "),
            ("c", "3"),
            ("d", "xy"),
            ("e=f", "g\\"),
            ("h", "é\t|"),
            ("last", ""),
        ];
        let read = read_properties(text).unwrap();
        let read: Vec<(&str, &str)> = read.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(read, expected);
        assert_eq!(read_properties("a=1\nb=\\u00g1"), Err(2));
    }
}
