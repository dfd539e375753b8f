//! `--metrics HOST:PORT`: Prometheus text, with Kafka's names for what Kafka measures, as its JMX exporter spells them.
//! docs/internals/metrics.md lists them.

use ottla::{
    Broker, BrokerMetrics, ClientMetric, ClientMetricKind, ClientMetricValue, ClientMetrics,
    PartitionMetrics, QuotaOf, Server, ServerCounters, TelemetryMetrics,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A scraper that says nothing for so long is left alone.
const PATIENCE: Duration = Duration::from_secs(5);
/// No scraper's request is longer.
const LONGEST_REQUEST: usize = 8 * 1024;

/// What is served; whoever stops it takes it out.
pub type Served = Arc<Mutex<Option<(Broker, Server)>>>;

/// Listens, and answers scrapers on a thread of its own for as long as the process lives. Only on a loopback address.
pub fn serve(address: SocketAddr, served: Served) -> Result<SocketAddr, String> {
    if !address.ip().is_loopback() {
        return Err(format!(
            "--metrics {address}: only loopback addresses, since there is no authentication yet"
        ));
    }
    let failed = |error: std::io::Error| format!("--metrics {address}: {error}");
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let started = Instant::now();
    thread::Builder::new()
        .name("ottla-metrics".into())
        .spawn(move || {
            for stream in listener.incoming() {
                match stream {
                    // One at a time: scrapers come every few seconds.
                    Ok(stream) => answer(stream, &served, started),
                    // Out of descriptors, for one: it may be better in a while.
                    Err(_) => thread::sleep(Duration::from_millis(100)),
                }
            }
        })
        .map_err(failed)?;
    Ok(bound)
}

fn answer(mut stream: TcpStream, served: &Served, started: Instant) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(_) if request.len() > LONGEST_REQUEST => return,
            Ok(len) => request.extend_from_slice(&part[..len]),
        }
    }
    let path = request.strip_prefix(b"GET ").unwrap_or_default();
    let path = path.split(|byte| *byte == b' ').next().unwrap_or_default();
    let (status, kind, body) = if path == b"/metrics" || path == b"/" {
        let served = served.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((broker, server)) = &*served else {
            return;
        };
        let body = text(&broker.metrics(), &server.counters(), started.elapsed());
        ("200 OK", "text/plain; version=0.0.4; charset=utf-8", body)
    } else {
        ("404 Not Found", "text/plain", "GET /metrics\n".into())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body.as_bytes());
}

/// The text of an answer.
fn text(broker: &BrokerMetrics, server: &ServerCounters, up: Duration) -> String {
    let mut page = Page::default();
    topics(&mut page, broker);
    partitions(&mut page, broker);
    requests(&mut page, server);
    page.metric(
        "kafka_coordinator_group_groupmetadatamanager_numgroups",
        "gauge",
        "Groups, by type and state.",
    );
    for ((kind, state), count) in &broker.groups {
        page.row(&[("type", kind), ("state", state)], *count as f64);
    }
    quotas(&mut page, broker);
    page.metric(
        "kafka_server_delayedoperationpurgatory_purgatorysize",
        "gauge",
        "Requests that wait.",
    );
    page.row(
        &[("delayedOperation", "Produce")],
        broker.waiting_produces as f64,
    );
    page.row(
        &[("delayedOperation", "Fetch")],
        broker.waiting_fetches as f64,
    );
    page.row(
        &[("delayedOperation", "ShareFetch")],
        broker.waiting_share_fetches as f64,
    );
    page.one(
        "kafka_server_fetchsessioncache_numincrementalfetchsessions",
        "gauge",
        "Incremental fetch sessions.",
        broker.fetch_sessions as f64,
    );
    page.one(
        "process_uptime_seconds",
        "gauge",
        "Since the daemon was started.",
        up.as_secs_f64(),
    );
    if let Some(counted) = &broker.telemetry {
        telemetry(&mut page, counted);
    }
    clients(&mut page, &broker.clients);
    page.text
}

/// How it went with what clients push: Kafka's `client-metrics`, and what is ours.
fn telemetry(page: &mut Page, counted: &TelemetryMetrics) {
    let all = [
        (
            "kafka_server_client_metrics_instance_count",
            "gauge",
            "Clients that were asked for metrics, or pushed some.",
            counted.instances as u64,
        ),
        (
            "kafka_server_client_metrics_unknown_subscription_request_count",
            "counter",
            "Pushes for a subscription that had changed.",
            counted.unknown_subscriptions,
        ),
        (
            "kafka_server_client_metrics_throttle_count",
            "counter",
            "Requests that came too early.",
            counted.throttled,
        ),
        (
            "kafka_server_client_metrics_plugin_export_count",
            "counter",
            "Pushes that were taken.",
            counted.taken,
        ),
        (
            "kafka_server_client_metrics_plugin_error_count",
            "counter",
            "Pushes that could not be read.",
            counted.unreadable,
        ),
        (
            "ottla_client_metrics_left_out_total",
            "counter",
            "Values that clients pushed beyond a bound, or of a kind that is not known.",
            counted.left_out,
        ),
    ];
    for (name, kind, help, value) in all {
        page.one(name, kind, help, value as f64);
    }
}

/// What clients pushed (KIP-714), a metric under one heading for all clients.
fn clients(page: &mut Page, clients: &[ClientMetrics]) {
    let mut by_name: BTreeMap<String, Vec<(&ClientMetrics, &ClientMetric)>> = BTreeMap::new();
    for client in clients {
        for metric in &client.metrics {
            let of = by_name.entry(name_of(metric.name())).or_default();
            of.push((client, metric));
        }
    }
    for (name, metrics) in by_name {
        let first = metrics[0].1.kind;
        let kind = match first {
            // Clients that don't agree, or two names of theirs that are one here.
            _ if metrics.iter().any(|(_, metric)| metric.kind != first) => "untyped",
            ClientMetricKind::Counter => "counter",
            ClientMetricKind::Gauge => "gauge",
            ClientMetricKind::Histogram => "histogram",
        };
        page.metric(&name, kind, "Pushed by clients.");
        let mut told = BTreeSet::new();
        for (client, metric) in metrics {
            let labels = labels_of(client, metric);
            // Once each, or a scraper could take neither.
            if !told.insert(labels.clone()) {
                continue;
            }
            let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (&**k, &**v)).collect();
            match &metric.value {
                ClientMetricValue::Number(value) => page.row(&labels, *value),
                ClientMetricValue::Histogram {
                    bounds,
                    counts,
                    count,
                    sum,
                } => page.histogram(&labels, (bounds, counts), *count, *sum),
            }
        }
    }
}

/// `org.apache.kafka.producer.connection.creation.total` is `kafka_client_producer_connection_creation_total`.
fn name_of(name: &str) -> String {
    let own = name.strip_prefix("org.apache.kafka.").unwrap_or(name);
    format!("kafka_client_{}", word(own))
}

/// What of a name can be in a name here.
fn word(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(fits).collect()
}

/// Who the client is, and the metric's attributes: each label once, and none that has a meaning of its own.
fn labels_of(client: &ClientMetrics, metric: &ClientMetric) -> Vec<(String, String)> {
    let mut labels = vec![
        (
            "client_instance_id".to_owned(),
            client.client_instance_id.to_string(),
        ),
        ("client_id".to_owned(), client.client_id.to_string()),
    ];
    for (key, value) in metric.attributes() {
        let mut key = word(key);
        if key.starts_with("__") || !key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        {
            key.insert_str(0, "attribute_");
        }
        if key != "le" && labels.iter().all(|(other, _)| *other != key) {
            labels.push((key, value.to_owned()));
        }
    }
    labels
}

/// A topic's counters: how they are read out of a partition's numbers.
type Sum = (&'static str, &'static str, fn(&PartitionMetrics) -> u64);

/// What Kafka's BrokerTopicMetrics have, added up over a topic's partitions.
const OF_TOPICS: [Sum; 6] = [
    ("messagesin", "Records appended.", |p| p.messages_in),
    ("bytesin", "Bytes appended.", |p| p.bytes_in),
    (
        "bytesout",
        "Bytes of records that went to consumers.",
        |p| p.bytes_out,
    ),
    (
        "totalproducerequests",
        "Produces to partitions, also those that failed.",
        |p| p.produce_requests,
    ),
    (
        "failedproducerequests",
        "Produces to partitions that failed in a way that Kafka counts.",
        |p| p.failed_produces,
    ),
    ("totalfetchrequests", "Fetches of partitions.", |p| {
        p.fetches
    }),
];

fn topics(page: &mut Page, broker: &BrokerMetrics) {
    for (name, help, value) in OF_TOPICS {
        let name = format!("kafka_server_brokertopicmetrics_{name}_total");
        page.metric(&name, "counter", help);
        let mut by_topic: BTreeMap<&str, u64> = BTreeMap::new();
        for partition in &broker.partitions {
            *by_topic.entry(&partition.topic).or_default() += value(partition);
        }
        page.row(&[], by_topic.values().sum::<u64>() as f64);
        for (topic, sum) in by_topic {
            page.row(&[("topic", topic)], sum as f64);
        }
    }
    page.one(
        "kafka_server_brokertopicmetrics_failedfetchrequests_total",
        "counter",
        "Partitions whose fetch failed.",
        broker.failed_fetches as f64,
    );
}

/// A gauge of every partition.
type Gauge = (&'static str, &'static str, fn(&PartitionMetrics) -> f64);

const OF_PARTITIONS: [Gauge; 6] = [
    ("kafka_log_log_size", "Bytes of the log.", |p| {
        p.size_bytes as f64
    }),
    (
        "kafka_log_log_numlogsegments",
        "Segments of the log.",
        |p| p.segments as f64,
    ),
    (
        "kafka_log_log_logstartoffset",
        "First offset that may be read.",
        |p| p.log_start_offset as f64,
    ),
    (
        "kafka_log_log_logendoffset",
        "The offset that the next record gets.",
        |p| p.log_end_offset as f64,
    ),
    (
        "ottla_log_high_watermark",
        "Exclusive end of what is committed.",
        |p| p.high_watermark as f64,
    ),
    (
        "ottla_log_damaged_bytes",
        "Bytes that can't be read since they are damaged.",
        |p| p.damaged_bytes as f64,
    ),
];

fn partitions(page: &mut Page, broker: &BrokerMetrics) {
    let all = broker.partitions.len();
    let offline = broker.partitions.iter().filter(|p| p.is_offline).count();
    let of_broker = [
        ("partitioncount", "Partitions.", all),
        (
            "leadercount",
            "Partitions that this broker leads.",
            all - offline,
        ),
        (
            "offlinereplicacount",
            "Partitions whose log failed.",
            offline,
        ),
    ];
    for (name, help, value) in of_broker {
        let name = format!("kafka_server_replicamanager_{name}");
        page.one(&name, "gauge", help, value as f64);
    }
    let topics: BTreeSet<&str> = broker.partitions.iter().map(|p| &*p.topic).collect();
    let of_controller = [
        ("globaltopiccount", "Topics.", topics.len()),
        ("globalpartitioncount", "Partitions.", all),
        (
            "offlinepartitionscount",
            "Partitions without a leader: their log failed.",
            offline,
        ),
        // Whoever is told so by Metadata.
        (
            "activecontrollercount",
            "This broker is its own controller.",
            1,
        ),
    ];
    for (name, help, value) in of_controller {
        let name = format!("kafka_controller_kafkacontroller_{name}");
        page.one(&name, "gauge", help, value as f64);
    }
    for (name, help, value) in OF_PARTITIONS {
        page.metric(name, "gauge", help);
        for partition in &broker.partitions {
            let number = partition.partition.to_string();
            let labels = [("topic", &*partition.topic), ("partition", &*number)];
            page.row(&labels, value(partition));
        }
    }
}

/// What clients used of their quotas, by whom a quota counts together.
fn quotas(page: &mut Page, broker: &BrokerMetrics) {
    for (of, name, rate, help) in [
        (
            QuotaOf::Produce,
            "produce",
            "byte_rate",
            "Bytes a second that were produced, of those who have a quota.",
        ),
        (
            QuotaOf::Fetch,
            "fetch",
            "byte_rate",
            "Bytes a second that were fetched, of those who have a quota.",
        ),
        (
            QuotaOf::Request,
            "request",
            "request_time",
            "Percent of a thread that requests took, of those who have a quota.",
        ),
    ] {
        let of_it: Vec<_> = broker.quotas.iter().filter(|q| q.of == of).collect();
        let labels = |q: &ottla::QuotaMetrics| {
            let text = |name: &Option<ottla::Str>| name.as_deref().unwrap_or_default().to_owned();
            (text(&q.user), text(&q.client_id))
        };
        page.metric(&format!("kafka_server_{name}_{rate}"), "gauge", help);
        for quota in &of_it {
            let (user, client_id) = labels(quota);
            page.row(&[("user", &user), ("client_id", &client_id)], quota.rate);
        }
        let name = format!("kafka_server_{name}_throttle_time");
        let help = "For how many milliseconds they were told to wait, on average.";
        page.metric(&name, "gauge", help);
        for quota in of_it {
            let (user, client_id) = labels(quota);
            let labels = [("user", &*user), ("client_id", &*client_id)];
            page.row(&labels, quota.throttle_time_ms);
        }
    }
}

fn requests(page: &mut Page, server: &ServerCounters) {
    page.metric(
        "kafka_network_requestmetrics_requests_total",
        "counter",
        "Requests, by API.",
    );
    for api in &server.apis {
        page.row(&[("request", api.key.name())], api.requests as f64);
    }
    page.metric(
        "kafka_network_requestmetrics_requestbytes_total",
        "counter",
        "Bytes of requests.",
    );
    for api in &server.apis {
        page.row(&[("request", api.key.name())], api.bytes_in as f64);
    }
    page.metric(
        "kafka_network_requestmetrics_totaltimems",
        "summary",
        "From a request's arrival to its answer, in milliseconds.",
    );
    for api in &server.apis {
        let labels = [("request", api.key.name())];
        page.part("_count", &labels, api.answers as f64);
        page.part("_sum", &labels, api.total_us as f64 / 1000.0);
    }
    page.metric(
        "kafka_network_requestmetrics_throttletimems",
        "summary",
        "For how long clients were told to wait because they had used up a quota, in milliseconds.",
    );
    for api in &server.apis {
        let labels = [("request", api.key.name())];
        page.part("_count", &labels, api.answers as f64);
        page.part("_sum", &labels, api.throttle_ms as f64);
    }
    page.metric(
        "ottla_request_longest_ms",
        "gauge",
        "The longest time to an answer.",
    );
    for api in &server.apis {
        page.row(&[("request", api.key.name())], api.max_us as f64 / 1000.0);
    }
    let of_sockets = [
        (
            "connection_count",
            "gauge",
            "Open connections.",
            server.connections_open,
        ),
        (
            "connection_creation_total",
            "counter",
            "Connections accepted.",
            server.connections_accepted,
        ),
        (
            "connection_close_total",
            "counter",
            "Connections closed.",
            server.connections_closed,
        ),
        (
            "incoming_byte_total",
            "counter",
            "Bytes received.",
            server.bytes_in,
        ),
        (
            "outgoing_byte_total",
            "counter",
            "Bytes sent.",
            server.bytes_out,
        ),
    ];
    for (name, kind, help, value) in of_sockets {
        let name = format!("kafka_server_socket_server_metrics_{name}");
        page.one(&name, kind, help, value as f64);
    }
    let held = [
        (
            "ottla_connections_refused_total",
            "counter",
            "Connections refused: too many from one address.",
            server.connections_refused,
        ),
        (
            "ottla_connections_throttled_total",
            "counter",
            "Connections closed: too many in a short time from one address.",
            server.connections_throttled,
        ),
        (
            "ottla_request_bytes_held",
            "gauge",
            "Bytes of requests that are not answered.",
            server.request_bytes_held,
        ),
        (
            "ottla_answer_bytes_held",
            "gauge",
            "Bytes of answers that clients did not take yet.",
            server.answer_bytes_held,
        ),
    ];
    for (name, kind, help, value) in held {
        page.one(name, kind, help, value as f64);
    }
}

/// A page of metrics in the making.
#[derive(Default)]
struct Page {
    text: String,
    name: String,
}

impl Page {
    /// Begins a metric; its rows follow.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.name = name.into();
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn row(&mut self, labels: &[(&str, &str)], value: f64) {
        self.part("", labels, value);
    }

    /// A row of the metric with something behind its name.
    fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.text += &self.name;
        self.text += suffix;
        for (at, (name, value)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(self.text, "{before}{name}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = match value {
            f64::INFINITY => writeln!(self.text, " +Inf"),
            f64::NEG_INFINITY => writeln!(self.text, " -Inf"),
            value => writeln!(self.text, " {value}"),
        };
    }

    /// A row for each bucket, cumulative, and for count and sum.
    fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        (bounds, counts): (&[f64], &[u64]),
        count: u64,
        sum: f64,
    ) {
        let mut below = 0u64;
        for (bound, inside) in bounds.iter().zip(counts) {
            below = below.saturating_add(*inside);
            if !bound.is_finite() {
                continue;
            }
            let bound = bound.to_string();
            let labels: Vec<_> = labels.iter().copied().chain([("le", &*bound)]).collect();
            self.part("_bucket", &labels, below as f64);
        }
        let labels_of_all: Vec<_> = labels.iter().copied().chain([("le", "+Inf")]).collect();
        self.part("_bucket", &labels_of_all, count as f64);
        self.part("_count", labels, count as f64);
        self.part("_sum", labels, sum);
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.metric(name, kind, help);
        self.row(&[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla::{
        NewRecord, Producer,
        serve::{Listener, ServerConfig},
    };

    fn served(broker: &Broker) -> Served {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let server = ottla::serve::serve(broker, &[Listener::from(any)], ServerConfig::default());
        Arc::new(Mutex::new(Some((broker.clone(), server.unwrap()))))
    }

    #[test]
    fn a_scraper_gets_what_was_counted() {
        let broker = Broker::open("memory:metrics").unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let served = served(&broker);
        let address = serve(any, served.clone()).unwrap();
        let config = ottla::Config::new()
            .with("bootstrap.servers", "memory:metrics")
            .unwrap();
        let producer = Producer::new(config).unwrap();
        producer.send(NewRecord::to("t").value("v")).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();

        let get = |path: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            said
        };
        let page = get("/metrics");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        for line in [
            "kafka_server_brokertopicmetrics_messagesin_total{topic=\"t\"} 1",
            "kafka_log_log_logendoffset{topic=\"t\",partition=\"0\"} 1",
            "kafka_server_replicamanager_partitioncount 1",
            "kafka_controller_kafkacontroller_globaltopiccount 1",
            "kafka_controller_kafkacontroller_offlinepartitionscount 0",
        ] {
            assert!(
                page.lines().any(|other| other == line),
                "{line} is not in {page}"
            );
        }
        assert!(get("/other").starts_with("HTTP/1.1 404"));
        drop(served.lock().unwrap().take());
        assert_eq!(get("/metrics"), "", "what is stopped has nothing to say");
    }

    #[test]
    fn what_clients_pushed_has_prometheus_names_and_labels() {
        let number = ClientMetricValue::Number;
        let (counter, gauge) = (ClientMetricKind::Counter, ClientMetricKind::Gauge);
        let client = |id: u8, metrics: Vec<ClientMetric>| ClientMetrics {
            client_instance_id: ottla::Uuid([id; 16]),
            client_id: "c \"1\"".into(),
            metrics,
        };
        let histogram = ClientMetricValue::Histogram {
            bounds: vec![0.5, f64::INFINITY],
            counts: vec![1, 2, 0],
            count: 3,
            sum: 4.5,
        };
        let odd = [
            ("node.id", "1"),
            ("node-id", "2"),
            ("client_id", "x"),
            ("le", "x"),
            ("__name__", "x"),
            ("1", "\n"),
        ];
        let all = [
            client(
                0,
                vec![
                    ClientMetric::new(
                        "org.apache.kafka.producer.a.total",
                        &odd,
                        counter,
                        number(2.0),
                    ),
                    ClientMetric::new("my.app-a", &[], gauge, number(f64::INFINITY)),
                    ClientMetric::new("my.app.a", &[], counter, number(1.0)),
                    ClientMetric::new("h", &[("k", "v")], ClientMetricKind::Histogram, histogram),
                ],
            ),
            client(
                1,
                vec![ClientMetric::new(
                    "org.apache.kafka.producer.a.total",
                    &[],
                    counter,
                    number(3.0),
                )],
            ),
        ];
        let mut page = Page::default();
        clients(&mut page, &all);
        let zero = "client_instance_id=\"AAAAAAAAAAAAAAAAAAAAAA\",client_id=\"c \\\"1\\\"\"";
        let one = "client_instance_id=\"AQEBAQEBAQEBAQEBAQEBAQ\",client_id=\"c \\\"1\\\"\"";
        let expected = [
            "# HELP kafka_client_h Pushed by clients.".to_owned(),
            "# TYPE kafka_client_h histogram".to_owned(),
            format!("kafka_client_h_bucket{{{zero},k=\"v\",le=\"0.5\"}} 1"),
            format!("kafka_client_h_bucket{{{zero},k=\"v\",le=\"+Inf\"}} 3"),
            format!("kafka_client_h_count{{{zero},k=\"v\"}} 3"),
            format!("kafka_client_h_sum{{{zero},k=\"v\"}} 4.5"),
            "# HELP kafka_client_my_app_a Pushed by clients.".to_owned(),
            "# TYPE kafka_client_my_app_a untyped".to_owned(),
            format!("kafka_client_my_app_a{{{zero}}} +Inf"),
            "# HELP kafka_client_producer_a_total Pushed by clients.".to_owned(),
            "# TYPE kafka_client_producer_a_total counter".to_owned(),
            format!(
                "kafka_client_producer_a_total{{{zero},node_id=\"1\",attribute___name__=\"x\",attribute_1=\"\\n\"}} 2"
            ),
            format!("kafka_client_producer_a_total{{{one}}} 3"),
        ];
        let lines: Vec<&str> = page.text.lines().collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn others_than_this_machine_get_nothing() {
        let broker = Broker::open("memory:metrics-refused").unwrap();
        let why = serve("0.0.0.0:0".parse().unwrap(), served(&broker));
        assert!(why.unwrap_err().contains("loopback"));
    }
}
