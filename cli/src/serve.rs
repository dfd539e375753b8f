//! `ottla serve [DIR]`: a broker on TCP, from its settings to its last answer.

use crate::{
    Failure,
    log::{Format, LineLog},
    properties,
};
use ottla::{
    Broker, Config,
    serve::{Level, Listener, ServerConfig, ServerLog, serve},
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    fs,
    io::Write,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

pub const USAGE: &str = "\
usage: ottla serve [DIR] [OPTION]...

A broker that Kafka's clients connect to. DIR is where its data is (./ottla-data); memory: keeps it in memory only.

  --listen HOST:PORT     where to listen (127.0.0.1:9092); may be repeated; port 0 takes a free one
  --config FILE          settings, in the syntax of Kafka's server.properties
  --set NAME=VALUE       a setting; counts more than those of the file; may be repeated
  --threads N            event loops (one for each core, at most 8)
  --log-level LEVEL      error, warn, info (the default) or debug
  --log-format FORMAT    text (the default) or json

Once it serves, it writes a line `ottla: listening on HOST:PORT` for each address to standard output; its log goes to
standard error. SIGTERM and SIGINT stop it: what is acknowledged is on disk by then. Only loopback addresses are
listened on: there is neither TLS nor authentication yet.

With durability=fsync (the default) what is acknowledged is on disk; durability=os leaves that to the system, as Kafka does.

  ottla serve /var/lib/ottla --listen 127.0.0.1:0 --set durability=os
  kcat -b 127.0.0.1:9092 -L";

const DEFAULT_DIR: &str = "./ottla-data";
const DEFAULT_LISTEN: &str = "127.0.0.1:9092";

/// What the command line says.
#[derive(Debug, Default, PartialEq)]
struct Arguments {
    place: Option<String>,
    listen: Vec<String>,
    config: Option<String>,
    set: Vec<(String, String)>,
    threads: Option<usize>,
    log_level: Option<String>,
    log_format: Option<String>,
}

fn parse(args: &[String]) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (arg.as_str(), None),
        };
        if !name.starts_with('-') || name == "-" {
            if parsed.place.replace(arg.clone()).is_some() {
                return Err("serve takes one directory".into());
            }
            continue;
        }
        let mut value = || {
            let next = inline.clone().or_else(|| args.next().cloned());
            next.ok_or_else(|| format!("{name} needs a value"))
        };
        match name {
            "--listen" => parsed.listen.push(value()?),
            "--config" => parsed.config = Some(value()?),
            "--set" => {
                let value = value()?;
                let (key, value) = value
                    .split_once('=')
                    .ok_or_else(|| format!("--set {value}: NAME=VALUE is expected"))?;
                parsed.set.push((key.trim().into(), value.trim().into()));
            }
            "--threads" => {
                let value = value()?;
                let threads = value.parse().ok().filter(|n| (1..=1024).contains(n));
                parsed.threads = Some(threads.ok_or_else(|| {
                    format!("--threads {value}: a number from 1 to 1024 is expected")
                })?);
            }
            "--log-level" => parsed.log_level = Some(value()?),
            "--log-format" => parsed.log_format = Some(value()?),
            "--metrics" => return Err("--metrics is not there yet".into()),
            _ => return Err(format!("serve knows no {name}")),
        }
    }
    Ok(parsed)
}

/// What is to be served, and how.
struct Settings {
    broker: Config,
    place: String,
    listeners: Vec<Listener>,
    server: ServerConfig,
    /// Settings that have no effect here.
    unknown: Vec<String>,
}

impl Settings {
    fn new(arguments: &Arguments, log: Arc<dyn ServerLog>) -> Result<Self, String> {
        let mut entries = Vec::new();
        if let Some(path) = &arguments.config {
            let bytes = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
            // Java reads Latin-1; UTF-8 is what people mean today.
            let text = String::from_utf8(bytes)
                .unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect());
            entries = properties::parse(&text).map_err(|error| format!("{path}: {error}"))?;
        }
        entries.extend(arguments.set.iter().cloned());
        // The last one counts, as in Java.
        let find = |name: &str| {
            let entry = entries.iter().rev().find(|(key, _)| key == name);
            entry.map(|(_, value)| value.trim())
        };

        let mut server = ServerConfig {
            log,
            ..ServerConfig::default()
        };
        let mut broker = Config::new();
        let mut unknown = Vec::new();
        for (at, (name, value)) in entries.iter().enumerate() {
            if entries[at + 1..].iter().any(|(later, _)| later == name) {
                continue;
            }
            let value = value.trim();
            match name.as_str() {
                "num.network.threads" => server.threads = number(name, value, 1, 1024)?,
                "socket.request.max.bytes" => {
                    server.max_request_bytes = number(name, value, 1, i32::MAX as usize)?;
                }
                "queued.max.request.bytes" => {
                    if value == "-1" {
                        server.max_queued_bytes = usize::MAX;
                    } else {
                        server.max_queued_bytes = number(name, value, 1, usize::MAX)?;
                    }
                }
                "connections.max.idle.ms" => server.max_idle = idle(name, value)?,
                "max.connections" => {
                    server.max_connections = number(name, value, 1, usize::MAX)?;
                }
                "max.connections.per.ip" => {
                    server.max_connections_per_ip = number(name, value, 1, usize::MAX)?;
                }
                // Looked at below.
                "listeners"
                | "advertised.listeners"
                | "controller.listener.names"
                | "listener.security.protocol.map"
                | "log.dir"
                | "log.dirs" => {}
                _ => {
                    let known = ottla_name(name);
                    if ottla::config::properties().any(|row| row.name == known) {
                        broker
                            .set(&known, value)
                            .map_err(|error| format!("{name}: {error}"))?;
                    } else {
                        unknown.push(name.clone());
                    }
                }
            }
        }
        if let Some(threads) = arguments.threads {
            server.threads = threads;
        }
        let dir = find("log.dirs").or(find("log.dir"));
        let place = arguments.place.as_deref().or(dir).unwrap_or(DEFAULT_DIR);
        let place = address_of(place)?;
        broker
            .set("bootstrap.servers", &place)
            .map_err(|error| error.to_string())?;
        let listeners = if arguments.listen.is_empty() {
            let controllers = find("controller.listener.names").unwrap_or_default();
            let protocols = find("listener.security.protocol.map").unwrap_or_default();
            let named = named_listeners(
                find("listeners").unwrap_or_default(),
                controllers,
                protocols,
            )?;
            let advertised = named_listeners(
                find("advertised.listeners").unwrap_or_default(),
                controllers,
                protocols,
            )?;
            listeners_of(&named, &advertised)?
        } else {
            let listeners = arguments.listen.iter().map(|listen| resolve(listen));
            listeners
                .map(|address| address.map(Listener::from))
                .collect::<Result<_, _>>()?
        };
        Ok(Self {
            broker,
            place,
            listeners,
            server,
            unknown,
        })
    }
}

/// The name that one of Kafka's settings has among Ottla's properties.
fn ottla_name(name: &str) -> String {
    let name = if name == "broker.id" { "node.id" } else { name };
    format!("ottla.broker.{name}")
}

fn number(name: &str, value: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = value.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("{name}={value}: a number from {least} to {most} is expected"))
}

/// Milliseconds; negative is for ever, as in Kafka.
fn idle(name: &str, value: &str) -> Result<Duration, String> {
    if value.starts_with('-') && value[1..].parse::<u64>().is_ok() {
        return Ok(Duration::from_secs(u64::from(u32::MAX)));
    }
    number(name, value, 0, i64::MAX as usize).map(|ms| Duration::from_millis(ms as u64))
}

/// What the Rust API calls a directory, or memory.
fn address_of(place: &str) -> Result<String, String> {
    if place.starts_with("memory:") || place.starts_with("file:") {
        return Ok(place.into());
    }
    if place.contains(',') {
        return Err(format!(
            "log.dirs={place}: a broker has one directory; several are not served"
        ));
    }
    Ok(format!(
        "file:{}",
        place.replace('%', "%25").replace('?', "%3F")
    ))
}

/// One entry of `listeners` or `advertised.listeners`.
#[derive(Debug, PartialEq)]
struct Named {
    name: String,
    host: String,
    port: u16,
}

/// Reads `NAME://HOST:PORT,…`, without the listeners of a controller: there is none apart.
fn named_listeners(text: &str, controllers: &str, protocols: &str) -> Result<Vec<Named>, String> {
    let mut listeners = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let bad = || format!("{entry}: NAME://HOST:PORT is expected");
        let (name, address) = entry.split_once("://").ok_or_else(bad)?;
        if controllers.split(',').any(|other| other.trim() == name) {
            continue;
        }
        let protocol = protocols
            .split(',')
            .filter_map(|pair| pair.split_once(':'))
            .find(|(of, _)| of.trim() == name)
            .map_or(name, |(_, protocol)| protocol.trim());
        if !protocol.eq_ignore_ascii_case("PLAINTEXT") {
            return Err(format!(
                "{entry}: {protocol} is not there yet, only PLAINTEXT on a loopback address"
            ));
        }
        let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
        listeners.push(Named {
            name: name.into(),
            host: host.trim_matches(['[', ']']).into(),
            port: port.parse().map_err(|_| bad())?,
        });
    }
    Ok(listeners)
}

fn listeners_of(named: &[Named], advertised: &[Named]) -> Result<Vec<Listener>, String> {
    if named.is_empty() {
        let address = resolve(DEFAULT_LISTEN)?;
        let advertised = advertised.first().map(advertised_as);
        return Ok(vec![Listener {
            address,
            advertised,
        }]);
    }
    let mut listeners = Vec::new();
    for one in named {
        // No host is every address of the machine, as in Kafka.
        let host = if one.host.is_empty() {
            "0.0.0.0"
        } else {
            &one.host
        };
        let address = first_of((host, one.port), &format!("{host}:{}", one.port))?;
        let advertised = advertised
            .iter()
            .find(|other| other.name == one.name)
            .map(advertised_as);
        listeners.push(Listener {
            address,
            advertised,
        });
    }
    Ok(listeners)
}

fn advertised_as(named: &Named) -> (String, Option<u16>) {
    (named.host.clone(), (named.port != 0).then_some(named.port))
}

fn resolve(listen: &str) -> Result<SocketAddr, String> {
    first_of(listen, listen)
}

/// The address that a name stands for: the one of IPv4 if there are several.
fn first_of(address: impl ToSocketAddrs, text: &str) -> Result<SocketAddr, String> {
    let addresses: Vec<_> = address
        .to_socket_addrs()
        .map_err(|error| format!("{text}: HOST:PORT is expected ({error})"))?
        .collect();
    let ipv4 = addresses.iter().find(|address| address.is_ipv4());
    let first = ipv4.or(addresses.first()).copied();
    first.ok_or_else(|| format!("{text}: the name stands for no address"))
}

fn line_log(arguments: &Arguments) -> Result<LineLog, String> {
    let level = match arguments.log_level.as_deref() {
        None | Some("info") => Level::Info,
        Some("error") => Level::Error,
        Some("warn") => Level::Warn,
        Some("debug") => Level::Debug,
        Some(other) => {
            return Err(format!(
                "--log-level {other}: there are error, warn, info and debug"
            ));
        }
    };
    let format = match arguments.log_format.as_deref() {
        None | Some("text") => Format::Text,
        Some("json") => Format::Json,
        Some(other) => return Err(format!("--log-format {other}: there are text and json")),
    };
    Ok(LineLog { format, level })
}

pub fn main(args: &[String]) -> Result<(), Failure> {
    let started = Instant::now();
    // From here on a signal is waited for below instead of ending the process.
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Failure::Failed(format!("signals can't be handled: {error}")))?;
    let arguments = parse(args).map_err(Failure::Usage)?;
    let log: Arc<dyn ServerLog> = Arc::new(line_log(&arguments).map_err(Failure::Usage)?);
    let settings = Settings::new(&arguments, log.clone()).map_err(Failure::Failed)?;
    for name in &settings.unknown {
        let fields: [(&str, &dyn std::fmt::Display); 1] = [("name", name)];
        log.event(Level::Warn, "setting has no effect here", &fields);
    }

    let failed = |error: ottla::KafkaError| Failure::Failed(error.to_string());
    let broker = Broker::with(&settings.broker).map_err(failed)?;
    let server = serve(&broker, &settings.listeners, settings.server).map_err(failed)?;
    let mut stdout = std::io::stdout().lock();
    for address in server.local_addrs() {
        // If nobody reads it, nobody misses it.
        let _ = writeln!(stdout, "ottla: listening on {address}");
    }
    let _ = stdout.flush();
    drop(stdout);
    let ready_ms = started.elapsed().as_millis();
    log.event(
        Level::Info,
        "serving",
        &[("data", &settings.place), ("ready_ms", &ready_ms)],
    );

    let signal = signals.forever().next().unwrap_or(SIGTERM);
    let name = if signal == SIGINT {
        "SIGINT"
    } else {
        "SIGTERM"
    };
    log.event(Level::Info, "stopping", &[("signal", &name)]);
    // Whoever is in a hurry sends another one.
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            std::process::exit(128 + signal);
        }
    });
    server.stop();
    broker.close().map_err(failed)?;
    log.event(Level::Info, "stopped", &[]);
    Ok(())
}
