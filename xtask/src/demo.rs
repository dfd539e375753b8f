//! `cargo xtask demo [FILE]`: a C, a Python and a Node program share one durable embedded broker.
//!
//! C produces every line of FILE, keyed by its first word; Python counts the lines of each key as a group of two;
//! Node reads the topic from its beginning and checks the order. The three take turns on the directory.

use crate::{
    install_c, packages, setup,
    shell::{Outcome, command, output, root, run_quietly, step, target_dir},
};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

const TOPIC: &str = "lines";
const PARTITIONS: u32 = 6;
/// How much of a large FILE the demo takes.
const MAX_BYTES: u64 = 256 << 20;

/// Runs the command.
pub fn main(args: &[String]) -> Outcome {
    let file = match args {
        [] => None,
        [file] if !file.starts_with("--") => Some(file.as_str()),
        _ => return Err("usage: cargo xtask demo [FILE]    (- is standard input; without FILE, a real log of this machine)".into()),
    };
    let run_dir = target_dir()
        .join("demo")
        .join(format!("{}", seconds_since_epoch()));
    fs::create_dir_all(&run_dir).map_err(|e| format!("{}: {e}", run_dir.display()))?;
    let (source, input) = choose_input(file, &run_dir)?;

    setup::c_compiler()?;
    let prefix = target_dir().join("demo/prefix");
    install_c::install(&prefix)?;
    let python = packages::python_with_wheel()?;
    packages::build_node_addon()?;

    step("building demo/produce.c");
    let produce = run_dir.join("produce");
    run_quietly(&mut install_c::compiler_with_rpath(
        &prefix,
        &["-O2", "-Wall"],
        "demo/produce.c",
        &produce,
    ))?;

    let data = run_dir.join("data");
    let lines = count_lines(&input)?;
    let bootstrap = format!("file://{}?num.partitions={PARTITIONS}", data.display());
    println!("\n{lines} lines of {source} through {}\n", bootstrap);
    let node_modules = run_dir.join("node_modules");
    packages::link_node_package(&node_modules)?;
    let verify = run_dir.join("verify.mjs");
    fs::copy(root().join("demo/verify.mjs"), &verify)
        .map_err(|e| format!("{}: {e}", verify.display()))?;

    let programs: [(&str, &str, &Path, &[&Path]); 3] = [
        ("C", "produces, acks=all, idempotent", &produce, &[]),
        (
            "Python",
            "counts keys, a group of two",
            &python,
            &[&root().join("demo/count.py")],
        ),
        (
            "Node",
            "checks each key's order",
            Path::new("node"),
            &[&verify],
        ),
    ];
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "",
        "what it does",
        "lines",
        "keys",
        "partitions",
        "messages/s",
        "p50",
        "p99",
    ]);
    let mut results = Vec::new();
    for (language, task, program, args) in programs {
        let mut command = Command::new(program);
        command
            .current_dir(&run_dir)
            .args(args)
            .arg(&bootstrap)
            .arg(TOPIC)
            .arg(&input);
        let result = watch(language, task, lines, &mut command)?;
        let number = |name: &str| result[name].as_u64();
        if number("lines") != Some(lines) {
            return Err(format!("{language}: {} of {lines} lines", result["lines"]));
        }
        let rate = lines as f64
            / result["seconds"]
                .as_f64()
                .unwrap_or(f64::INFINITY)
                .max(1e-9);
        table.add_row([
            language.to_string(),
            task.to_string(),
            grouped(lines),
            number("keys").map_or("–".into(), grouped),
            number("partitions").map_or("–".into(), grouped),
            grouped(rate as u64),
            number("p50_us").map_or("–".into(), duration),
            number("p99_us").map_or("–".into(), duration),
        ]);
        results.push(result);
    }
    if results[1]["keys"] != results[2]["keys"] {
        return Err(format!(
            "Python saw {} keys, Node {}",
            results[1]["keys"], results[2]["keys"]
        ));
    }
    for column in 2..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("\n{table}");
    println!(
        "Latency: produce to delivery report (C), one consume(10000) call (Python), one batch (Node).\n\
         Every line arrived once, in its key's order, and every count agrees.\n"
    );
    tell_more(&results[1], &prefix, &data);
    Ok(())
}

/// What Python counted, and what may be done with the directory now.
fn tell_more(counted: &Value, prefix: &Path, data: &Path) {
    println!("What the lines begin with, most often:");
    for top in counted["top"].as_array().into_iter().flatten() {
        println!(
            "  {:>9}  {}",
            grouped(top[1].as_u64().unwrap_or(0)),
            top[0].as_str().unwrap_or("")
        );
    }
    println!(
        "\nThe broker's directory is yours to look at, in Kafka's own layout:\n  ls {}/{TOPIC}-0",
        data.display()
    );
    println!("Try next:");
    println!(
        "  LD_LIBRARY_PATH={0}/lib kcat -b file://{1} -L",
        prefix.display(),
        data.display()
    );
    println!(
        "  LD_LIBRARY_PATH={0}/lib kcat -b file://{1} -C -t {TOPIC} -o -3 -e -f '%p:%o %k → %s\\n'",
        prefix.display(),
        data.display()
    );
    println!("  cargo xtask demo /path/to/another.log      cargo xtask bench");
}

/// Runs one of the three programs, draws its progress, and returns its result.
fn watch(language: &str, task: &str, lines: u64, command: &mut Command) -> Outcome<Value> {
    let bar = ProgressBar::new(lines);
    let style = "{prefix:>7} {bar:32} {human_pos:>11} / {human_len}  {per_sec:<16} {msg}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is a constant"));
    bar.set_prefix(language.to_string());
    bar.set_message(task.to_string());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| {
            format!(
                "{language}: {}: {e}",
                command.get_program().to_string_lossy()
            )
        })?;
    let mut result = None;
    for line in BufReader::new(child.stdout.take().expect("stdout is piped")).lines() {
        let line = line.map_err(|e| format!("{language}: {e}"))?;
        match serde_json::from_str::<Value>(&line) {
            Ok(mut value) if !value["result"].is_null() => result = Some(value["result"].take()),
            Ok(value) if value["progress"].is_u64() => {
                bar.set_position(value["progress"].as_u64().unwrap_or(0))
            }
            _ => bar.println(line),
        }
    }
    let status = child.wait().map_err(|e| format!("{language}: {e}"))?;
    if !status.success() {
        bar.abandon_with_message("failed");
        return Err(format!("the {language} program ended with {status}"));
    }
    bar.finish();
    result.ok_or_else(|| format!("the {language} program gave no result"))
}

/// The file to use, copied so that it can't grow while it is compared; with the name to show.
fn choose_input(asked: Option<&str>, run_dir: &Path) -> Outcome<(String, PathBuf)> {
    let copy = run_dir.join("input");
    let keep = |from: &mut dyn Read, name: &str| -> Outcome<bool> {
        let mut to = fs::File::create(&copy).map_err(|e| format!("{}: {e}", copy.display()))?;
        let bytes = std::io::copy(&mut from.take(MAX_BYTES), &mut to)
            .map_err(|e| format!("{name}: {e}"))?;
        if bytes == MAX_BYTES {
            eprintln!(
                "{name} is larger than {} MiB: taking its beginning",
                MAX_BYTES >> 20
            );
        }
        to.flush().map_err(|e| format!("{}: {e}", copy.display()))?;
        Ok(bytes > 0)
    };
    match asked {
        Some("-") => {
            keep(&mut std::io::stdin().lock(), "standard input")?;
            return Ok(("standard input".into(), copy));
        }
        Some(path) => {
            let mut file = fs::File::open(path).map_err(|e| format!("{path}: {e}"))?;
            keep(&mut file, path)?;
            return Ok((path.into(), copy));
        }
        None => {}
    }
    for log in [
        "/var/log/dpkg.log",
        "/var/log/pacman.log",
        "/var/log/dnf.log",
        "/var/log/syslog",
        "/var/log/messages",
    ] {
        if let Ok(mut file) = fs::File::open(log)
            && keep(&mut file, log)?
        {
            return Ok((log.into(), copy));
        }
    }
    let history = output(command("git").args(["log", "--stat"]))?;
    keep(&mut history.as_bytes(), "git log")?;
    Ok(("this repository's git log --stat".into(), copy))
}

/// Lines as the three programs count them: a last one without its newline counts too.
fn count_lines(path: &Path) -> Outcome<u64> {
    let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let newlines = bytes.iter().filter(|&&b| b == b'\n').count() as u64;
    Ok(newlines + u64::from(bytes.last().is_some_and(|&b| b != b'\n')))
}

fn seconds_since_epoch() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// 1234567 as "1,234,567".
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds with the unit that fits.
fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}
