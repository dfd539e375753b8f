//! `cargo xtask torture [RIG …] [--rounds N] [--minutes N]`: the long forms of the durability rigs, and the ledger of what was run.
//!
//! Each rig ends with lines `ledger: RIG | COUNT UNIT | FOUND | NOTE`; they go into `docs/ledger.md` with the date and the commit,
//! and the totals at its top are added up anew.

use crate::{
    setup,
    shell::{Outcome, cargo, command, output, root, step, target_dir},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

const LEDGER: &str = "docs/ledger.md";
/// What stands above the rows in the ledger.
const HEADING: &str =
    "| date | commit | rig | ran | found | what else |\n|---|---|---|---|---|---|\n";

/// How long a rig is to run.
#[derive(Clone, Copy, Default)]
struct Extent {
    rounds: Option<u64>,
    minutes: Option<u64>,
    /// The few that CI runs.
    slice: bool,
}

/// A rig's name, what it does, and the commands that run it.
type Rig = (&'static str, &'static str, fn(Extent) -> Outcome<Command>);

const RIGS: &[Rig] = &[
    (
        "kill",
        "kill -9 of a process under load (1,000 rounds)",
        |extent| torture("kill", extent, 30),
    ),
    (
        "steps",
        "death at every write, sync, rename, removal of a scenario",
        |extent| sweep("steps", extent, 40),
    ),
    (
        "syscalls",
        "the same at every system call, with strace",
        |extent| {
            setup::optional_packages(&["strace"]);
            sweep("syscalls", extent, 60)
        },
    ),
    (
        "flips",
        "every byte of a data directory flipped, every side file cut and gone",
        |extent| sweep("flips", extent, 41),
    ),
    (
        "limits",
        "full disks, too few descriptors, failed syncs, strangers' files",
        |extent| torture("limits", extent, 1),
    ),
    (
        "power",
        "power cuts on ext4 and xfs, as root (300 each)",
        |extent| {
            setup::optional_packages(&["e2fsprogs", "xfsprogs"]);
            torture("power", extent, 15)
        },
    ),
    (
        "states",
        "simulated states of the disk after a crash (10,000,000 different ones)",
        states,
    ),
    ("sim", "seeds of the simulator (100,000)", sim),
    (
        "groups",
        "kill -9 of `ottla serve` amid rebalances of 500 members and decisions of transactions",
        groups,
    ),
    ("fuzz", "the fuzz targets, a minute each", fuzz),
];

/// The long form of all rigs, or of those that are named.
pub fn main(args: &[String]) -> Outcome {
    let mut extent = Extent::default();
    let mut named: Vec<&str> = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let text = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            text.parse::<u64>()
                .map_err(|_| format!("{arg}: {text} is no number"))
        };
        match arg.as_str() {
            "--rounds" => extent.rounds = Some(number()?),
            "--minutes" => extent.minutes = Some(number()?),
            name if RIGS.iter().any(|(known, ..)| *known == name) => named.push(name),
            _ => {
                let known: Vec<_> = RIGS
                    .iter()
                    .map(|(name, what, _)| format!("  {name:9} {what}"))
                    .collect();
                return Err(format!(
                    "no rig is called {arg}; there are:\n{}",
                    known.join("\n")
                ));
            }
        }
    }
    let lines = play(&named, extent)?;
    let found: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("found: "))
        .collect();
    keep(&lines)?;
    if found.is_empty() {
        Ok(())
    } else {
        Err(format!("{} findings; {LEDGER} has the totals", found.len()))
    }
}

/// What `cargo xtask test torture` runs: a few rounds of everything, nothing kept.
pub fn slice() -> Outcome {
    let lines = play(
        &[],
        Extent {
            slice: true,
            ..Extent::default()
        },
    )?;
    match lines
        .iter()
        .filter(|line| line.starts_with("found: "))
        .count()
    {
        0 => Ok(()),
        found => Err(format!("{found} findings")),
    }
}

/// Runs rigs one after the other; what they said for us.
fn play(named: &[&str], extent: Extent) -> Outcome<Vec<String>> {
    let mut said = Vec::new();
    for (name, what, rig) in RIGS {
        if !named.is_empty() && !named.contains(name) {
            continue;
        }
        step(&format!("{name}: {what}"));
        let mut command = rig(extent)?;
        let failed = |error: std::io::Error| format!("{name}: {error}");
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
        let before = said.len();
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            let line = line.map_err(failed)?;
            println!("{line}");
            // The test harness may have begun a line of its own.
            for word in ["ledger: ", "found: ", "skipped: "] {
                if let Some(at) = line.find(word) {
                    said.push(line[at..].to_owned());
                }
            }
        }
        let status = child.wait().map_err(failed)?;
        // A rig that found something says so; one that fails otherwise has run nothing that counts.
        if !status.success()
            && !said[before..]
                .iter()
                .any(|line| line.starts_with("found: "))
        {
            return Err(format!("{name} ended with {status}"));
        }
        if said.len() == before {
            return Err(format!("{name} said nothing"));
        }
    }
    Ok(said)
}

/// A rig of `ottla-torture`, with so many rounds in CI.
fn torture(rig: &str, extent: Extent, rounds_in_ci: u64) -> Outcome<Command> {
    build("ottla-torture")?;
    let mut command = command(target_dir().join("release/ottla-torture"));
    command.arg(rig);
    let rounds = extent
        .rounds
        .or((extent.slice && rounds_in_ci > 0).then_some(rounds_in_ci));
    for (option, number) in [("--rounds", rounds), ("--minutes", extent.minutes)] {
        if let Some(number) = number {
            command.args([option, &number.to_string()]);
        }
    }
    // Every run is another one; the ledger says which.
    if !extent.slice {
        command.args(["--seed", &seed().to_string()]);
    }
    Ok(command)
}

fn states(extent: Extent) -> Outcome<Command> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--release", "--package", "ottla-log"]);
    command.args(["--test", "crash_states", "--", "--ignored", "--nocapture"]);
    let states = extent
        .rounds
        .unwrap_or(if extent.slice { 200_000 } else { 10_000_000 });
    command.env("OTTLA_CRASH_STATES", states.to_string());
    if !extent.slice {
        command.env("OTTLA_CRASH_FROM", seed().to_string());
    }
    Ok(command)
}

fn sim(extent: Extent) -> Outcome<Command> {
    build("ottla-sim")?;
    let mut command = command(target_dir().join("release/ottla-sim"));
    let seeds = extent
        .rounds
        .unwrap_or(if extent.slice { 300 } else { 100_000 });
    command.args(["--ledger", "--seeds", &seeds.to_string()]);
    if !extent.slice {
        command.args(["--from", &seed().to_string()]);
    }
    Ok(command)
}

/// `--rounds` kills of each, or `--minutes` of them: of groups (40) and of transactions (300).
fn groups(extent: Extent) -> Outcome<Command> {
    if extent.slice {
        let mut command = command("bash");
        command.args([
            "-c",
            "echo 'skipped: groups: the suite rust has its short form'",
        ]);
        return Ok(command);
    }
    let mut command = cargo();
    command.args(["test", "--quiet", "--release", "--package", "ottla-cli"]);
    command.args(["--test", "groups", "--test", "crashes"]);
    command.args(["--", "--ignored", "--nocapture", "--test-threads", "1"]);
    for (name, number) in [
        ("OTTLA_ROUNDS", extent.rounds),
        ("OTTLA_MINUTES", extent.minutes),
    ] {
        if let Some(number) = number {
            command.env(name, number.to_string());
        }
    }
    command.env("OTTLA_SEED", seed().to_string());
    Ok(command)
}

/// A rig that sweeps over points, every so many of them in CI.
fn sweep(rig: &str, extent: Extent, stride_in_ci: u64) -> Outcome<Command> {
    let mut command = torture(
        rig,
        Extent {
            rounds: None,
            ..extent
        },
        0,
    )?;
    if extent.slice {
        command.args(["--stride", &stride_in_ci.to_string()]);
    }
    Ok(command)
}

/// Builds the fuzz targets with what libFuzzer needs, which a stable compiler can do, too; only the address sanitizer needs a nightly one.
fn fuzz(extent: Extent) -> Outcome<Command> {
    let mut command = command("bash");
    command.arg("-c");
    if extent.slice {
        command.arg("echo 'skipped: fuzz: not in CI'");
        return Ok(command);
    }
    let manifest = root().join(FUZZ_MANIFEST);
    let manifest =
        std::fs::read_to_string(&manifest).map_err(|e| format!("{FUZZ_MANIFEST}: {e}"))?;
    let targets = fuzz_targets(&manifest)?;
    let host = output(crate::shell::command("rustc").arg("-vV"))?;
    let host = host
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or("rustc doesn't say what it runs on")?;
    let target_dir = target_dir().join("fuzz");
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--target", host]);
    build.args(["--manifest-path", FUZZ_MANIFEST]);
    build.env("CARGO_TARGET_DIR", &target_dir);
    build.env("RUSTFLAGS", FUZZ_FLAGS);
    crate::shell::run(&mut build)?;
    let seconds = extent.minutes.unwrap_or(targets.len() as u64) * 60 / targets.len() as u64;
    let place = target_dir.display();
    command.arg(format!(
        "found=0
        for target in {names}; do
            mkdir -p {place}/corpus/$target
            {place}/{host}/release/$target {place}/corpus/$target -max_total_time={seconds} -artifact_prefix={place}/$target- \\
                || {{ found=$((found + 1)); echo \"found: fuzz $target\"; }}
        done
        echo \"ledger: fuzz | {all} seconds | $found | {list}, without address sanitizer\"",
        names = targets.join(" "),
        list = targets.join(", "),
        all = seconds * targets.len() as u64,
    ));
    Ok(command)
}

const FUZZ_MANIFEST: &str = "fuzz/Cargo.toml";

/// The names of a manifest's programs, which are the fuzz targets.
fn fuzz_targets(manifest: &str) -> Outcome<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        bin: Vec<Program>,
    }
    #[derive(serde::Deserialize)]
    struct Program {
        name: String,
    }
    let manifest: Manifest =
        toml::from_str(manifest).map_err(|e| format!("{FUZZ_MANIFEST}: {e}"))?;
    Ok(manifest.bin.into_iter().map(|bin| bin.name).collect())
}

/// Coverage as cargo-fuzz asks for it, and arithmetic that overflows aloud.
const FUZZ_FLAGS: &str = "--cfg fuzzing -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

fn build(package: &str) -> Outcome {
    crate::shell::run(cargo().args(["build", "--quiet", "--release", "--package", package]))
}

/// The second of the day and the day: runs don't repeat each other, and the number is short.
fn seed() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |since| since.as_secs() % 100_000_000)
}

/// Adds what rigs said to the ledger.
fn keep(lines: &[String]) -> Outcome {
    let path = root().join(LEDGER);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{LEDGER}: {e}"))?;
    let date = output(command("date").args(["-u", "+%Y-%m-%d"]))?;
    let commit = output(command("git").args(["rev-parse", "--short", "HEAD"]))?;
    let changed =
        output(command("git").args(["status", "--porcelain", "-uno", "--", "core", "rigs"]))?;
    let changed = if changed.trim().is_empty() {
        ""
    } else {
        " and changes"
    };
    let rows: Vec<String> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("ledger: "))
        .map(|line| format!("| {} | {}{changed} | {line} |", date.trim(), commit.trim()))
        .collect();
    std::fs::write(&path, with_rows(&text, &rows)?).map_err(|e| format!("{LEDGER}: {e}"))
}

/// The ledger with more rows, and its totals.
fn with_rows(text: &str, rows: &[String]) -> Outcome<String> {
    let lost = || format!("{LEDGER} has lost its tables");
    let (above, rest) = text.split_once(TOTALS).ok_or_else(lost)?;
    let (_, rest) = rest.split_once("\n## ").ok_or_else(lost)?;
    let (between, table) = rest.split_once(HEADING).ok_or_else(lost)?;
    let old = table.lines().take_while(|line| line.starts_with('|'));
    let all: Vec<&str> = old.chain(rows.iter().map(String::as_str)).collect();
    let behind: String = table
        .lines()
        .skip_while(|line| line.starts_with('|'))
        .fold(String::new(), |text, line| text + line + "\n");
    let mut totals: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for row in &all {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, _, _, rig, ran, found, ..] = cells[..] else {
            return Err(format!("{LEDGER}: a row has too few cells: {row}"));
        };
        let (count, unit) = ran.split_once(' ').unwrap_or((ran, ""));
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("{LEDGER}: {text} is no number, in {row}"))
        };
        let total = totals.entry((rig.into(), unit.into())).or_default();
        total.0 += number(count)?;
        total.1 += number(found)?;
    }
    let mut new = format!("{above}{TOTALS}");
    for ((rig, unit), (count, found)) in totals {
        let _ = writeln!(new, "| {rig} | {count} {unit} | {found} |");
    }
    let _ = write!(new, "\n## {between}{HEADING}{}\n{behind}", all.join("\n"));
    Ok(new)
}

/// What stands above the totals.
const TOTALS: &str = "| rig | ran | found |\n|---|---|---|\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_up() {
        let empty = format!("# L\n\n{TOTALS}\n## Runs\n\n{HEADING}\n## More\n\ntext\n");
        let row = |n: u64, found: u64| format!("| d | c | kill | {n} rounds | {found} | a, b |");
        let one = with_rows(&empty, &[row(10, 0)]).unwrap();
        let two = with_rows(&one, &[row(5, 2), "| d | c | sim | 7 seeds | 0 | |".into()]).unwrap();
        assert!(
            two.contains("| kill | 15 rounds | 2 |\n| sim | 7 seeds | 0 |\n"),
            "{two}"
        );
        assert!(
            two.contains(&format!("{}\n{}\n", row(10, 0), row(5, 2))),
            "{two}"
        );
        assert!(two.ends_with("\n## More\n\ntext\n"), "{two}");
        assert!(with_rows("nothing", &[]).is_err());
    }
    #[test]
    fn every_fuzz_target_is_run() {
        let manifest = std::fs::read_to_string(root().join(FUZZ_MANIFEST)).unwrap();
        let mut named = fuzz_targets(&manifest).unwrap();
        named.sort();
        let files = std::fs::read_dir(root().join("fuzz/fuzz_targets")).unwrap();
        let mut there: Vec<String> = files
            .map(|file| file.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        there.sort();
        assert_eq!(named, there);
        assert!(fuzz_targets("[package]\nname = \"p\"\n").is_err());
    }
}
