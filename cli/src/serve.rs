//! `ottla serve [DIR]`: a broker on TCP, from its settings to its last answer.

use crate::{
    Failure,
    log::{Format, LineLog},
    metrics,
};
use ottla::{
    Broker,
    serve::{
        Level, Listener, ServerConfig, ServerLog, ServerProperties, Unused, broker_row,
        read_properties, serve, why_unknown,
    },
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    fs,
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

pub const USAGE: &str = "\
usage: ottla serve [DIR] [OPTION]...

A broker that Kafka's clients connect to. DIR is where its data is (log.dirs of FILE, or ./ottla-data); memory: keeps it
in memory only.

  --listen HOST:PORT     where to listen (127.0.0.1:9092); may be repeated; port 0 takes a free one
  --config FILE          settings, in the syntax of Kafka's server.properties
  --set NAME=VALUE       a setting; counts more than those of the file; may be repeated. BROKER_CONFIGURATION.md has all
  --threads N            event loops (one for each core, at most 8)
  --metrics HOST:PORT    Prometheus text at http://HOST:PORT/metrics; loopback only. Clients are asked for theirs, too
                         (client.telemetry.enable=false leaves them alone)
  --log-level LEVEL      error, warn, info (the default) or debug
  --log-format FORMAT    text (the default) or json

Once it serves, it writes a line `ottla: listening on HOST:PORT` for each address to standard output; its log goes to
standard error. SIGTERM and SIGINT stop it: what is acknowledged is on disk by then. Only loopback addresses are
listened on: there is neither TLS nor authentication yet.

The soft limit of open files is raised to the hard one (ulimit -H -n): each partition has a file open.

With durability=fsync (the default) what is acknowledged is on disk; durability=os leaves that to the system, as Kafka does.

Exit codes: 0 when a signal stopped it; 1 when it can't start (a setting or an address is refused, the address is taken,
somebody has DIR open) or can't write what it has when it stops; 2 when an option can't be understood; 130 or 143 when a
second SIGINT or SIGTERM came while it stopped.

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
    metrics: Option<String>,
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
            "--metrics" => parsed.metrics = Some(value()?),
            _ => return Err(format!("serve knows no {name}")),
        }
    }
    Ok(parsed)
}

/// What is to be served, and how.
struct Settings {
    place: String,
    properties: ServerProperties,
    listeners: Vec<Listener>,
    server: ServerConfig,
    /// Settings that nobody knows.
    unknown: Vec<String>,
}

impl Settings {
    fn new(arguments: &Arguments, log: Arc<dyn ServerLog>) -> Result<Self, String> {
        let mut given = Vec::new();
        if let Some(path) = &arguments.config {
            let bytes = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
            // Java reads Latin-1; UTF-8 is what people mean today.
            let text = String::from_utf8(bytes)
                .unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect());
            given = read_properties(&text).map_err(|line| {
                format!("{path}: line {line}: there is an escape that can't be read")
            })?;
        }
        given.extend(arguments.set.iter().cloned());
        // As in Kafka a name that nobody knows is no reason not to start: it may belong to a plugin.
        let (known, unknown): (Vec<_>, Vec<_>) = given
            .into_iter()
            .partition(|(name, _)| broker_row(name).is_some());

        let mut server = ServerConfig {
            log,
            ..ServerConfig::default()
        };
        let threads = "num.network.threads";
        let is_set = known.iter().any(|(name, _)| name == threads);
        let of_machine = (!is_set).then_some(server.threads);
        let count = arguments.threads.or(of_machine).map(|n| n.to_string());
        let pairs = known.iter().map(|(name, value)| (&**name, &**value));
        // Where metrics are told, those of clients are taken.
        let telemetry = "client.telemetry.enable";
        let tells = arguments.metrics.is_some() && !known.iter().any(|(name, _)| name == telemetry);
        let implied = [
            count.as_deref().map(|n| (threads, n)),
            tells.then_some((telemetry, "true")),
        ];
        let mut properties = ServerProperties::parse(pairs.chain(implied.into_iter().flatten()))
            .map_err(|error| error.to_string())?;
        server.threads = properties.sockets.network_threads;
        server
            .apply(&properties.sockets)
            .map_err(|error| error.to_string())?;

        let dir = properties.sockets.log_dir.as_deref();
        let place = address_of(arguments.place.as_deref().or(dir).unwrap_or(DEFAULT_DIR));
        let mut listeners = if arguments.listen.is_empty() {
            Listener::all_of(&properties.sockets).map_err(|error| error.to_string())?
        } else {
            if !properties.sockets.advertised.is_empty() {
                properties.unused.push(Unused {
                    key: "advertised.listeners",
                    why: "--listen has no names: clients are told its addresses; use listeners"
                        .into(),
                });
            }
            let listeners = arguments.listen.iter().map(|text| listener(text));
            listeners.collect::<Result<_, _>>()?
        };
        if listeners.is_empty() {
            listeners.push(listener(DEFAULT_LISTEN)?);
        }
        Ok(Self {
            place,
            properties,
            listeners,
            server,
            unknown: unknown.into_iter().map(|(name, _)| name).collect(),
        })
    }
}

/// What the Rust API calls a directory, or memory.
fn address_of(place: &str) -> String {
    if place.starts_with("memory:") || place.starts_with("file:") {
        return place.into();
    }
    format!("file:{}", place.replace('%', "%25").replace('?', "%3F"))
}

/// `--listen HOST:PORT`.
fn listener(text: &str) -> Result<Listener, String> {
    let bad = || format!("--listen {text}: HOST:PORT is expected");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse().map_err(|_| bad())?;
    if host.is_empty() {
        return Err(bad());
    }
    Listener::at(host, port).map_err(|error| format!("--listen {text}: {error}"))
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

/// Raises the number of files that this process may have open to what it may raise it to. Shells start programs with room for 1,024,
/// for the sake of programs that use `select`; and each partition has a file open, each connection a socket.
fn raise_descriptor_limit(log: &dyn ServerLog) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        // Nothing is wrong yet: it may be enough as it is.
        let soft = limit.current.unwrap_or(u64::MAX);
        log.event(
            Level::Warn,
            "the limit of open files can't be raised",
            &[("limit", &soft), ("error", &error)],
        );
    }
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
        let fields: [(&str, &dyn std::fmt::Display); 2] =
            [("name", name), ("why", &why_unknown(name))];
        log.event(Level::Warn, "unknown setting", &fields);
    }
    for unused in &settings.properties.unused {
        log.event(
            Level::Warn,
            "setting has no effect here",
            &[("name", &unused.key), ("why", &unused.why)],
        );
    }

    raise_descriptor_limit(&*log);
    let failed = |error: ottla::KafkaError| Failure::Failed(error.to_string());
    let broker = Broker::with_properties(&settings.place, &settings.properties).map_err(failed)?;
    let server = serve(&broker, &settings.listeners, settings.server).map_err(failed)?;
    let addresses = server.local_addrs().to_vec();
    let served = Arc::new(Mutex::new(Some((broker, server))));
    if let Some(address) = &arguments.metrics {
        let parsed = address.parse().map_err(|_| {
            Failure::Usage(format!("--metrics {address}: ADDRESS:PORT is expected"))
        })?;
        let bound = metrics::serve(parsed, served.clone()).map_err(Failure::Failed)?;
        log.event(Level::Info, "metrics", &[("address", &bound)]);
    }
    let mut stdout = std::io::stdout().lock();
    for address in addresses {
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
    let taken = served.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((broker, server)) = taken {
        server.stop();
        broker.close().map_err(failed)?;
    }
    log.event(Level::Info, "stopped", &[]);
    Ok(())
}
