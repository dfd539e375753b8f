//! `cargo xtask bench [--json] [--quick] [--log-gib N]`: medians over several runs, beside what the machine and the peers do.

use crate::{
    install_c, packages, setup,
    shell::{Outcome, cargo, command, output, root, step, target_dir},
};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Bytes of a value in every row.
const SIZE: usize = 100;
const MIB: usize = 1 << 20;
/// The bootstrap server of the cases without files.
const MEMORY: &str = "memory:";

/// One line of the table.
struct Row {
    name: String,
    /// What the project promises, in messages per CPU second (`per_cpu`), messages per second, or microseconds.
    goal: Option<f64>,
    unit: Unit,
    median: f64,
    /// The other figure of the same runs: messages per wall-clock second (or per CPU second), the 99th percentile, how many
    /// values the bytes are, or what the unit says.
    beside: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    PerCpuSecond,
    PerSecond,
    Microseconds,
    GigabytesPerSecond,
    /// Of the speed at which something else is done with the same bytes; `beside` is that speed in GB/s.
    PercentOf(&'static str),
    /// As many times as one does; `beside` is how many a second that one does.
    Times,
    /// The median; `beside` is the longest.
    Milliseconds,
    /// Of memory; `beside` is of how many they are the mean.
    Bytes,
}

/// Runs the command.
pub fn main(args: &[String]) -> Outcome {
    if let Some((first, rest)) = args.split_first()
        && first == "peers"
    {
        return crate::peers::main(rest);
    }
    const USAGE: &str = "usage: cargo xtask bench [peers] [--json] [--quick] [--log-gib N]";
    let (mut as_json, mut quick, mut log_gib) = (false, false, 1u32);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => as_json = true,
            "--quick" => quick = true,
            "--log-gib" => {
                let number = args.next().and_then(|number| number.parse().ok());
                log_gib = number.filter(|gib| *gib > 0).ok_or(USAGE)?;
            }
            _ => return Err(USAGE.into()),
        }
    }
    let dir = target_dir().join("bench");
    let extent = match quick {
        true => Extent::new(1, 1_000_000, &dir),
        false => Extent::new(5, 4_000_000, &dir),
    };
    setup::c_compiler()?;
    setup::programs(&[("kcat", "kcat")])?; // brings librdkafka.so.1, the peer
    let program = CProgram::build(&dir)?;
    let python = packages::python_with_wheel()?;
    output(command(&python).args(["-m", "pip", "install", "-q", "confluent-kafka==2.16.1"]))?;
    packages::build_node_addon()?;

    let busy_before = load();
    let mut rows = machine(extent.runs);
    rows.extend(large_log(log_gib, &dir.join("log"))?);
    rows.extend(floods(&dir.join("flood"))?);
    rows.extend(durable_directory(&dir.join("durable"))?);
    rows.extend(from_c(&extent, &program)?);
    rows.extend(from_python(&extent, &python)?);
    rows.extend(from_node(&extent)?);

    let busy = busy_before.max(load());
    if as_json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        println!(
            "{}",
            serde_json::to_string_pretty(
                &json!({"value_bytes": SIZE, "runs": extent.runs, "load": busy, "rows": rows})
            )
            .unwrap_or_default()
        );
    } else {
        print(&rows, extent.runs);
        // The programs themselves keep about one processor busy.
        let processors = thread::available_parallelism().map_or(1, usize::from);
        if busy > processors as f64 {
            println!(
                "The load was up to {busy:.1} on {processors} processors: other work took its share of the wall-clock figures; \
                 go by those per CPU second."
            );
        }
    }
    Ok(())
}

/// How often each case of C, Python and Node runs, and on how much.
struct Extent {
    runs: usize,
    /// Messages of a run in C; the others send half as many.
    count: usize,
    /// The data directory: it is empty when a run begins.
    data: PathBuf,
}

impl Extent {
    fn new(runs: usize, count: usize, dir: &Path) -> Self {
        let data = dir.join("data");
        Self { runs, count, data }
    }

    fn repeat(&self, mut run: impl FnMut() -> Outcome<Value>) -> Outcome<Vec<Value>> {
        (0..self.runs)
            .map(|_| {
                let _ = fs::remove_dir_all(&self.data);
                let result = run();
                let _ = fs::remove_dir_all(&self.data);
                result
            })
            .collect()
    }
}

/// `benches/bench.c`, and our library for it.
struct CProgram {
    path: PathBuf,
    library: PathBuf,
}

impl CProgram {
    fn build(dir: &Path) -> Outcome<Self> {
        let prefix = dir.join("prefix");
        install_c::install(&prefix)?;
        let program = Self {
            path: dir.join("bench-c"),
            library: prefix.join("lib"),
        };
        let flags = ["-O2", "-Wall"];
        output(&mut install_c::compiler(
            &prefix,
            &flags,
            "benches/bench.c",
            &program.path,
        ))?;
        Ok(program)
    }
}

/// What the C program is run for.
struct CCase<'a> {
    name: &'a str,
    /// Where librdkafka.so.1 is; without it the loader finds the system's.
    library: Option<&'a Path>,
    what: &'a str,
    bootstrap: &'a str,
    count: usize,
    properties: &'a [&'a str],
    goal: Option<f64>,
}

fn from_c(extent: &Extent, program: &CProgram) -> Outcome<Vec<Row>> {
    let file = format!("file://{}?durability=os", extent.data.display());
    let synced = format!("file://{}", extent.data.display());
    let idempotent: &[&str] = &["enable.idempotence=true"];
    let ours = |name, what, bootstrap, goal| CCase {
        name,
        library: Some(&program.library),
        what,
        bootstrap,
        count: extent.count,
        properties: &[],
        goal,
    };
    let peer = |name, what| CCase {
        library: None,
        count: extent.count / 2,
        ..ours(name, what, "mock", None)
    };
    let cases = [
        ours("C produce + report, memory:", "produce", MEMORY, Some(8e6)),
        CCase {
            properties: idempotent,
            ..ours(
                "C produce + report, memory:, idempotent",
                "produce",
                MEMORY,
                Some(8e6),
            )
        },
        ours(
            "C produce + report, file: durability=os",
            "produce",
            &file,
            Some(4e6),
        ),
        ours(
            "C produce + report, file: (fsync)",
            "produce",
            &synced,
            None,
        ),
        peer("  librdkafka, its mock cluster", "produce"),
        CCase {
            properties: idempotent,
            ..peer("  librdkafka, its mock cluster, idempotent", "produce")
        },
        ours("C consume, memory:", "consume", MEMORY, Some(15e6)),
        ours("C consume, file: durability=os", "consume", &file, None),
        CCase {
            count: 20_000,
            ..ours(
                "C produce → report, one at a time, memory:",
                "latency",
                MEMORY,
                Some(15.0),
            )
        },
        CCase {
            count: 5_000,
            ..peer("  librdkafka, its mock cluster", "latency")
        },
    ];
    let mut rows = Vec::new();
    for case in cases {
        step(case.name.trim());
        let results = extent.repeat(|| {
            let mut run = command(&program.path);
            run.args([case.what, case.bootstrap])
                .args([case.count.to_string(), SIZE.to_string()])
                .args(case.properties)
                .env("LD_LIBRARY_PATH", case.library.unwrap_or(Path::new("")));
            result_of(&mut run)
        })?;
        let unit = match case.what {
            "latency" => Unit::Microseconds,
            _ => Unit::PerCpuSecond,
        };
        rows.push(row(case.name, case.goal, unit, &results));
    }
    Ok(rows)
}

fn from_python(extent: &Extent, python: &Path) -> Outcome<Vec<Row>> {
    let ours = |name, what, goal| (name, "ottla", what, MEMORY, Some(goal));
    let peer = |what| {
        let name = "  confluent-kafka, mock cluster";
        (name, "confluent_kafka", what, "mock", None)
    };
    let mut rows = Vec::new();
    for (name, module, what, bootstrap, goal) in [
        ours("Python produce()", "produce", 2e6),
        peer("produce"),
        ours("Python produce(), a callback each", "produce-callback", 1e6),
        peer("produce-callback"),
        ours("Python produce_batch()", "produce-batch", 5e6),
        ours("Python consume(10000)", "consume", 5e6),
    ] {
        step(name.trim());
        let results = extent.repeat(|| {
            result_of(
                command(python)
                    .arg("benches/bench.py")
                    .args([module, what, bootstrap])
                    .args([(extent.count / 2).to_string(), SIZE.to_string()]),
            )
        })?;
        rows.push(row(name, goal, Unit::PerSecond, &results));
    }
    Ok(rows)
}

fn from_node(extent: &Extent) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, what) in [
        ("Node send(), batches of 10,000", "produce-batch"),
        ("Node eachBatch", "consume"),
    ] {
        step(name);
        let results = extent.repeat(|| {
            result_of(
                command("node")
                    .env("OTTLA_NODE", root().join("bindings-node"))
                    .args(["benches/bench.mjs", what, MEMORY])
                    .args([(extent.count / 2).to_string(), SIZE.to_string()]),
            )
        })?;
        rows.push(row(name, Some(2e6), Unit::PerSecond, &results));
    }
    Ok(rows)
}

/// The system's load average of the last minute; 0 where it has none.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next();
    first.and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

/// What this machine does at best with the same bytes: copying them, CRC-32C over them, writing them to a file.
fn machine(runs: usize) -> Vec<Row> {
    step("the machine itself");
    let bytes: Vec<u8> = (0..64 * MIB).map(|i| (i * 31) as u8).collect();
    let mut copy = vec![1u8; bytes.len()];
    let path = target_dir().join("bench/machine.tmp");
    let measure = |name: &str, work: &mut dyn FnMut()| {
        work(); // the first run pays for the pages
        let mut rates: Vec<f64> = (0..runs.max(3))
            .map(|_| {
                let start = Instant::now();
                work();
                bytes.len() as f64
                    / start.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
                    / 1e9
            })
            .collect();
        Row {
            name: name.into(),
            goal: None,
            unit: Unit::GigabytesPerSecond,
            median: median(&mut rates),
            beside: 0.0,
        }
        .of_values()
    };
    let rows = vec![
        measure("machine: copy 1 MiB pieces", &mut || {
            for (to, from) in copy.chunks_mut(MIB).zip(bytes.chunks(MIB)) {
                to.copy_from_slice(black_box(from));
            }
        }),
        measure("machine: CRC-32C", &mut || {
            bytes.chunks(MIB).for_each(|piece| {
                black_box(crc32c::crc32c(piece));
            });
        }),
        measure("machine: write(2) to a new file", &mut || {
            use std::io::Write;
            if let Ok(mut file) = fs::File::create(&path) {
                bytes
                    .chunks(MIB)
                    .for_each(|piece| drop(file.write_all(piece)));
            }
        }),
    ];
    let _ = fs::remove_file(&path);
    rows
}

/// Look-ups in a log of so many GiB, and reads of its sealed segments (`core/driver/examples/log_speed.rs`): one run, which
/// takes 20,000 look-ups of each kind and the median of five reads.
fn large_log(gib: u32, dir: &Path) -> Outcome<Vec<Row>> {
    step("the log");
    let gib_arg = gib.to_string();
    let result = example("ottla-driver", "log_speed", &["--log-gib", &gib_arg], dir)?;
    let mut rows = Vec::new();
    let parts = |field: &str| result[field].as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let size = |part: &Value| match part["batch_bytes"].as_u64() {
        Some(bytes) if bytes.is_multiple_of(1024) => format!("{} KiB", bytes / 1024),
        _ => format!("{} kB", number(&part["batch_bytes"]) / 1e3),
    };
    let appended = &result["appends"];
    rows.push(Row {
        name: "append 1 MiB batches to files".into(),
        goal: Some(70.0),
        unit: Unit::PercentOf("CRC + write(2)"),
        median: number(&appended["append_percent"]),
        beside: number(&appended["plain_gb_per_s"]),
    });
    for part in parts("lookups") {
        for (field, what, goal) in [("offset", "offset", 2.0), ("time", "timestamp", 5.0)] {
            rows.push(Row {
                name: format!("log of {gib} GiB, by {what}, {} batches", size(&part)),
                goal: Some(goal),
                unit: Unit::Microseconds,
                median: number(&part[field]["p50_us"]),
                beside: number(&part[field]["p99_us"]),
            });
        }
    }
    for part in parts("sealed") {
        rows.push(Row {
            name: format!("read mapped segments, {} batches", size(&part)),
            goal: Some(50.0),
            unit: Unit::PercentOf("copying"),
            median: number(&part["read_percent"]),
            beside: number(&part["copy_gb_per_s"]),
        });
    }
    if rows.len() != 10 {
        return Err("log_speed printed other figures than were expected".into());
    }
    Ok(rows)
}

/// What a broker on sockets takes in with one event loop and with two (`core/driver/examples/flood_speed.rs`).
fn floods(dir: &Path) -> Outcome<Vec<Row>> {
    step("floods of produces");
    fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let result = example("ottla-driver", "flood_speed", &[], dir)?;
    let floods = result["floods"].as_array().cloned().unwrap_or_default();
    let row = |flood: &Value| Row {
        name: format!(
            "flood of {:.0} kB produces, {}, event loops: {}",
            flood["batch_bytes"].as_f64().unwrap_or(f64::NAN) / 1e3,
            flood["codec"].as_str().unwrap_or_default(),
            flood["loops"],
        ),
        goal: None,
        unit: Unit::GigabytesPerSecond,
        median: flood["gb_per_s"].as_f64().unwrap_or(f64::NAN),
        beside: flood["records_per_s"].as_f64().unwrap_or(f64::NAN),
    };
    match floods.len() {
        8 => Ok(floods.iter().map(row).collect()),
        _ => Err("flood_speed printed other figures than were expected".into()),
    }
}

/// What opening a durable directory takes, what an open partition costs, and what sharing syncs is worth
/// (`core/ottla/examples/durable_speed.rs`).
fn durable_directory(dir: &Path) -> Outcome<Vec<Row>> {
    step("a durable directory");
    let result = example("ottla", "durable_speed", &[], dir)?;
    let of = |field: &str| result[field].as_f64().unwrap_or(f64::NAN);
    let row = |name: &str, goal, unit, median, beside| Row {
        name: name.into(),
        goal,
        unit,
        median,
        beside,
    };
    Ok(vec![
        row(
            "clean open of 1,000 partitions",
            Some(200.0),
            Unit::Milliseconds,
            of("clean_ms"),
            of("longest_clean_ms"),
        ),
        row(
            "open of 1 GiB after a death",
            Some(1000.0),
            Unit::Milliseconds,
            of("unclean_ms"),
            of("longest_unclean_ms"),
        ),
        row(
            "memory of an idle open partition",
            Some(2048.0),
            Unit::Bytes,
            of("partition_bytes"),
            of("partitions"),
        ),
        row(
            "16 producers, file: (fsync)",
            Some(8.0),
            Unit::Times,
            of("sixteen_per_s") / of("one_per_s"),
            of("one_per_s"),
        ),
        row(
            "16 producers, twelve partitions (fsync)",
            None,
            Unit::Times,
            of("twelve_per_s") / of("one_per_s"),
            of("one_per_s"),
        ),
        // What the machine makes of sixteen threads: where a sync is about as short as waking them, not eight times either.
        row(
            "16 threads, a plain file (fsync)",
            None,
            Unit::Times,
            of("plain_sixteen_per_s") / of("plain_one_per_s"),
            of("plain_one_per_s"),
        ),
    ])
}

/// What an example of a crate prints: one that measures in a directory.
fn example(package: &str, name: &str, args: &[&str], dir: &Path) -> Outcome<Value> {
    result_of(
        cargo()
            .args(["run", "--release", "-q", "-p", package])
            .args(["--example", name, "--"])
            .args(args)
            .arg(dir),
    )
}

/// The JSON line that a benchmark program prints last.
fn result_of(run: &mut std::process::Command) -> Outcome<Value> {
    let text = output(run)?;
    let line = text
        .lines()
        .rev()
        .find(|line| line.starts_with('{'))
        .unwrap_or_default();
    serde_json::from_str(line).map_err(|e| format!("a benchmark printed no result: {e}"))
}

fn row(name: &str, goal: Option<f64>, unit: Unit, results: &[Value]) -> Row {
    let number = |value: &Value, field: &str| value[field].as_f64().unwrap_or(f64::NAN);
    let of = |figure: &dyn Fn(&Value) -> f64| {
        median(&mut results.iter().map(figure).collect::<Vec<_>>())
    };
    let per =
        |field: &'static str| move |value: &Value| number(value, "messages") / number(value, field);
    let (main, beside) = match unit {
        Unit::PerCpuSecond => (of(&per("cpu_seconds")), of(&per("seconds"))),
        Unit::PerSecond => (of(&per("seconds")), of(&per("cpu_seconds"))),
        _ => (of(&|v| number(v, "p50_us")), of(&|v| number(v, "p99_us"))),
    };
    Row {
        name: name.into(),
        goal,
        unit,
        median: main,
        beside,
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Row {
    /// For bytes: how many values that is, to be held beside messages.
    fn of_values(self) -> Self {
        Self {
            beside: self.median * 1e9 / SIZE as f64,
            ..self
        }
    }

    fn reached(&self) -> Option<bool> {
        let goal = self.goal?;
        Some(match self.unit {
            Unit::Microseconds | Unit::Milliseconds | Unit::Bytes => self.median < goal,
            _ => self.median >= goal,
        })
    }

    fn json(&self) -> Value {
        let percent_of;
        let (unit, beside) = match self.unit {
            Unit::PerCpuSecond => ("messages per CPU second", "messages per second"),
            Unit::PerSecond => ("messages per second", "messages per CPU second"),
            Unit::Microseconds => ("microseconds, p50", "microseconds, p99"),
            Unit::GigabytesPerSecond => ("GB/s", "values per second"),
            Unit::PercentOf(what) => {
                percent_of = format!("percent of {what}");
                (&*percent_of, "GB/s of that")
            }
            Unit::Times => ("times one", "of one, per second"),
            Unit::Milliseconds => ("milliseconds, median", "milliseconds, longest"),
            Unit::Bytes => ("bytes", "of so many"),
        };
        let mut value = json!({"name": self.name.trim(), "unit": unit, "median": self.median});
        value[beside] = json!(self.beside);
        if let Some(goal) = self.goal {
            value["goal"] = json!(goal);
            value["reached"] = json!(self.reached());
        }
        value
    }
}

fn print(rows: &[Row], runs: usize) {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(["", "median", "", "beside", "goal", ""]);
    for row in rows {
        let (scale, decimals, suffix, unit) = match row.unit {
            Unit::PerCpuSecond => (1e6, 2, " M", "msg per CPU s"),
            Unit::PerSecond => (1e6, 2, " M", "msg/s"),
            Unit::Microseconds => (1.0, 1, " µs", "p50"),
            Unit::GigabytesPerSecond => (1.0, 2, "", "GB/s"),
            Unit::PercentOf(what) => (1.0, 0, " %", what),
            Unit::Times => (1.0, 1, "", "times one"),
            Unit::Milliseconds => (1.0, 0, " ms", ""),
            Unit::Bytes => (1.0, 0, "", "bytes"),
        };
        let figure = |number: f64| format!("{:.decimals$}{suffix}", number / scale);
        let beside = match row.unit {
            Unit::PerCpuSecond => format!("{:.2} M msg/s", row.beside / 1e6),
            Unit::PerSecond => format!("{:.2} M msg per CPU s", row.beside / 1e6),
            Unit::Microseconds => format!("p99 {:.1} µs", row.beside),
            Unit::GigabytesPerSecond => format!("{:.2} M values/s", row.beside / 1e6),
            Unit::PercentOf(_) => format!("{:.1} GB/s", row.beside),
            Unit::Times => format!("one: {:.0}/s", row.beside),
            Unit::Milliseconds => format!("longest {:.0} ms", row.beside),
            Unit::Bytes => format!("of {:.0}", row.beside),
        };
        let mark = match row.reached() {
            Some(true) => "✓",
            Some(false) => "below",
            None => "",
        };
        table.add_row([
            &row.name,
            &figure(row.median),
            unit,
            &beside,
            &row.goal.map(figure).unwrap_or_default(),
            mark,
        ]);
    }
    for column in [1, 3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!(
        "\n{table}\nMedians of {runs} runs; values of {SIZE} bytes; the CPU time is that of all threads of the process."
    );
}
