//! Kafka's Java side against `ottla serve`, unmodified, from Maven: `cargo xtask test java`.
//!
//! The Java client with the programs users write, Kafka's command-line tools, Kafka Streams, Kafka Connect, Flume. Everything runs
//! against a JVM Kafka as well: the tools always do, since what they print is compared; the rest with `--against jvm`, which is the
//! control that a case expects what Kafka does.

mod cases;
mod servers;
mod tools;

use servers::{Java, Server};
use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

/// What a step ends with: nothing, or the sentence that says what is wrong.
pub type Outcome<T = ()> = Result<T, String>;

const USAGE: &str = "\
usage: cargo xtask test java [PART …] [--against ottla|jvm] [--case TEXT]…

  clients   the Java client: producers, consumers, groups, transactions, Admin, share groups
  tools     Kafka's command-line tools print what they print against Kafka
  streams   Kafka Streams' word count
  connect   Kafka Connect's workers, file source and sink
  flume     a Flume agent with a Kafka sink";

const PARTS: [&str; 5] = ["clients", "tools", "streams", "connect", "flume"];

/// Which broker the programs talk to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// What this is for.
    Ottla,
    /// The control.
    Jvm,
}

/// How the parts' results add up.
#[derive(Default)]
pub struct Tally {
    /// How many cases passed.
    pub passed: usize,
    /// Those that did not, and why.
    pub failed: Vec<String>,
    /// What doesn't pass yet, with the reason.
    pub pending: Vec<String>,
}

fn main() -> ExitCode {
    match prove() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

fn prove() -> Outcome {
    let (mut parts, mut against, mut wanted) = (Vec::new(), Against::Ottla, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--against" => {
                against = match value()?.as_str() {
                    "ottla" => Against::Ottla,
                    "jvm" => Against::Jvm,
                    other => return Err(format!("neither ottla nor jvm: {other}\n{USAGE}")),
                }
            }
            "--case" => wanted.push(value()?),
            part if PARTS.contains(&part) => parts.push(arg),
            other => return Err(format!("not understood: {other}\n{USAGE}")),
        }
    }
    if parts.is_empty() {
        parts = PARTS.map(String::from).to_vec();
    }
    let java = Java::from_environment()?;
    let work = std::env::var_os("OTTLA_JAVA_WORK")
        .map_or_else(|| std::env::temp_dir().join("ottla-java"), PathBuf::from);
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;

    let mut tally = Tally::default();
    for part in &parts {
        println!("-- {part}");
        let begun = Instant::now();
        let dir = work.join(part);
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        if part == "tools" {
            tools::run(&java, against, &dir, &wanted, &mut tally)?;
        } else {
            let mut server = match against {
                Against::Ottla => Server::ottla(&dir, "broker", part == "clients")?,
                Against::Jvm => Server::kafka(&java, &dir, "broker")?,
            };
            cases::run(&java, against, part, &server, &dir, &wanted, &mut tally)?;
            server.stop(part, &mut tally)?;
        }
        println!("   {part}: {:.0} s", begun.elapsed().as_secs_f64());
    }
    for pending in &tally.pending {
        println!("pending: {pending}");
    }
    for failed in &tally.failed {
        println!("failed: {failed}");
    }
    println!(
        "java:\n{} passed, {} failed, {} skipped",
        tally.passed,
        tally.failed.len(),
        tally.pending.len()
    );
    if !tally.failed.is_empty() {
        return Err(format!("{} of Kafka's Java side", tally.failed.len()));
    }
    if tally.passed == 0 {
        return Err("no case was run".into());
    }
    Ok(())
}

/// Waits for something; an error with these words when it does not come in time.
pub fn within<T>(
    patience: Duration,
    what: impl Fn() -> String,
    mut ask: impl FnMut() -> Outcome<Option<T>>,
) -> Outcome<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(what());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
