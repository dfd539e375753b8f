//! `kill -9` at random times, under load, and in the middle of recovery from the kill before.

use crate::{
    children::{Telling, check, this_program},
    history::History,
    options::Options,
    random::Random,
    report::{Progress, Ran, Report},
};
use std::{path::Path, time::Duration};

/// Kills on one directory before the next begins, so that reading it takes no longer and longer.
const ROUNDS_PER_DIRECTORY: u64 = 20;
/// Within how many rounds the control must be caught.
const CONTROL_ROUNDS: u64 = 20;

/// Rounds, after the control.
pub fn main(options: &Options) -> Result<Report, String> {
    let rounds = options.rounds.unwrap_or(1000);
    let caught = control(options)?;
    let mut report = Report::default();
    let mut progress = Progress::new("kill", rounds, options.minutes);
    let (mut done, mut acknowledged, mut early) = (0, 0, 0);
    let mut random = Random::new(options.seed);
    while progress.goes_on(done, &report) {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut history = History::default();
        for run in 0..ROUNDS_PER_DIRECTORY {
            if !progress.goes_on(done, &report) {
                break;
            }
            let mut wrong = Vec::new();
            if random.below(4) == 0 {
                // Killed while it recovers from the kill before, or while it opens.
                let after = Duration::from_micros(random.below(40_000));
                let written = write(dir.path(), 2 * run as u32, options.seed, after)?;
                wrong.extend(written.crash());
                wrong.extend(history.add(&written.events));
                early += 1;
            }
            let after = Duration::from_micros(random.below(400_000));
            let run_number = 2 * run as u32 + 1;
            let written = write(dir.path(), run_number, options.seed ^ done, after)?;
            wrong.extend(check(&mut history, &written, dir.path())?);
            let round = format!("round {done} (--seed {})", options.seed);
            if !wrong.is_empty() {
                report.found(&round, wrong);
                let kept = dir.keep();
                eprintln!("the directory is kept: {}", kept.display());
                done += 1;
                break;
            }
            done += 1;
        }
        acknowledged += history.acknowledged();
    }
    report.ran.push(Ran {
        rig: "kill".into(),
        count: done,
        unit: "rounds",
        found: report.found.len() as u64,
        note: format!(
            "{acknowledged} records acknowledged, {early} more kills while opening; control caught in round {caught}; seed {}, {:.0} s",
            options.seed,
            progress.seconds()
        ),
    });
    Ok(report)
}

/// A writer that acknowledges before it writes must be found out.
fn control(options: &Options) -> Result<u64, String> {
    let mut random = Random::new(options.seed ^ 0xc0);
    for round in 1..=CONTROL_ROUNDS {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let after = Duration::from_micros(random.below(300_000));
        let mut writer = start(&format!("file://{}", dir.path().display()), 0, round, true)?;
        // However long it takes to start.
        writer.wait_for_acknowledgement();
        std::thread::sleep(after);
        writer.kill();
        let written = writer.end()?;
        let wrong = check(&mut History::default(), &written, dir.path())?;
        if wrong.iter().any(|what| what.contains("are lost")) {
            return Ok(round);
        }
    }
    Err(format!(
        "the control, which acknowledges before it writes, was not caught in {CONTROL_ROUNDS} rounds"
    ))
}

/// Lets a writer run for a while and kills it.
pub fn write(
    dir: &Path,
    run: u32,
    seed: u64,
    after: Duration,
) -> Result<crate::children::Told, String> {
    let mut writer = start(&format!("file://{}", dir.display()), run, seed, false)?;
    std::thread::sleep(after);
    writer.kill();
    writer.end()
}

/// Starts a writer.
pub fn start(address: &str, run: u32, seed: u64, lie: bool) -> Result<Telling, String> {
    let mut command = this_program();
    command.args(["writer", "--address", address]);
    command.args(["--run", &run.to_string(), "--seed", &seed.to_string()]);
    if lie {
        command.arg("--lie");
    }
    Telling::start(&mut command)
}
