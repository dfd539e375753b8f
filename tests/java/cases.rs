//! The parts that are lists of cases: the Java programs run them and say of each how it went.

use crate::{
    Against, Outcome, Tally,
    servers::{Java, Server},
};
use std::{fs::File, path::Path};

/// What does not pass against Ottla yet: a case's name, or how names begin and `*`, and why, a line each.
const PENDING: &str = include_str!("pending.txt");

/// The reason for which a case is expected to fail.
pub fn pending(name: &str) -> Option<&'static str> {
    let lines = PENDING.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('\t'))
        .find(|(case, _)| match case.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => *case == name,
        })
        .map(|(_, why)| why.trim())
}

/// Runs all cases of a part, or those whose names contain one of `wanted`.
pub fn run(
    java: &Java,
    against: Against,
    part: &str,
    server: &Server,
    dir: &Path,
    wanted: &[String],
    tally: &mut Tally,
) -> Outcome {
    let stacks = dir.join("stacks");
    let stacks_file = File::create(&stacks).map_err(|error| error.to_string())?;
    let done = java
        .command("ottla.Cases", &dir.join("client.log"))
        .arg(part)
        .arg(&server.address)
        .arg(dir)
        .args(wanted)
        .env(
            "OTTLA_METRICS",
            server.metrics.as_deref().unwrap_or_default(),
        )
        .stderr(stacks_file)
        .output()
        .map_err(|error| format!("java: {error}"))?;
    let said = String::from_utf8_lossy(&done.stdout);
    let (mut count, mut announced) = (0, None);
    let mut slowest: Vec<(u64, &str)> = Vec::new();
    for line in said.lines() {
        let fields: Vec<&str> = line.splitn(3, '\t').collect();
        match fields[..] {
            ["ok", name, ms] => {
                count += 1;
                tally.passed += 1;
                slowest.push((ms.parse().unwrap_or(0), name));
                if against == Against::Ottla && pending(name).is_some() {
                    println!("   passes now, take it off tests/java/pending.txt: {name}");
                }
            }
            ["FAIL", name, why] => {
                count += 1;
                match pending(name).filter(|_| against == Against::Ottla) {
                    Some(reason) => tally.pending.push(format!("{name}: {reason}")),
                    None => tally.failed.push(format!("{name}: {why}")),
                }
            }
            _ => {
                announced = line
                    .strip_prefix("done ")
                    .and_then(|n| n.parse().ok())
                    .or(announced)
            }
        }
    }
    slowest.sort_unstable();
    if let Some((ms, name)) = slowest.last() {
        println!("   {count} cases; the slowest: {name}, {} s", ms / 1000);
    }
    if announced == Some(count) {
        return Ok(());
    }
    Err(format!(
        "{part}: the program ended after {count} cases with {}: {}",
        done.status,
        std::fs::read_to_string(stacks).unwrap_or_default()
    ))
}
