//! `ottla-sim`: plays seeds.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use ottla_sim::{Bug, Options, Outcome, PLANTED_SEEDS, run};

const USAGE: &str =
    "usage: ottla-sim [--seeds N] [--from N] [--seed N] [--twice N] [--planted] [--trace] [--ledger]
  --seeds N    plays so many seeds (default 100)
  --from N     the first of them (default 0)
  --seed N     plays this one only
  --twice N    plays so many of them a second time and compares the traces
  --planted    plants each known bug and expects the checker to find it
  --ledger     ends with a line for docs/ledger.md
  --trace      prints what happens, event by event";

#[derive(Default)]
struct Totals {
    records: u64,
    acknowledged: u64,
    transactions: u64,
    assignments: u64,
    deliveries: u64,
    crashes: u64,
    faults: u64,
    steps: u64,
    simulated_us: u64,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.records += outcome.records;
        self.acknowledged += outcome.acknowledged;
        self.transactions += outcome.transactions;
        self.assignments += outcome.assignments;
        self.deliveries += outcome.deliveries;
        self.crashes += outcome.crashes;
        self.faults += outcome.faults;
        self.steps += outcome.steps;
        self.simulated_us += outcome.simulated_us;
    }
}

fn main() -> ExitCode {
    let (mut seeds, mut from, mut twice) = (100, 0, 0);
    let (mut planted, mut trace, mut ledger) = (false, false, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse::<u64>().ok());
        let known = match arg.as_str() {
            "--seeds" => number().map(|n| seeds = n),
            "--from" => number().map(|n| from = n),
            "--seed" => number().map(|n| (from, seeds) = (n, 1)),
            "--twice" => number().map(|n| twice = n),
            "--planted" => {
                planted = true;
                Some(())
            }
            "--trace" => {
                trace = true;
                Some(())
            }
            "--ledger" => {
                ledger = true;
                Some(())
            }
            _ => None,
        };
        if known.is_none() {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    let options = Options {
        trace,
        planted: None,
    };
    let start = Instant::now();
    let mut told = start;
    let (mut passed, mut failed) = (0, 0);
    let mut totals = Totals::default();
    for seed in from..from + seeds {
        let outcome = run(seed, options);
        outcome
            .trace
            .iter()
            .flatten()
            .for_each(|line| println!("{line}"));
        totals.add(&outcome);
        let mut violations = outcome.violations.clone();
        if seed - from < twice && run(seed, options).hash != outcome.hash {
            violations.push("a second run went another way".into());
        }
        if violations.is_empty() {
            passed += 1;
        } else {
            failed += 1;
            println!("seed {seed} FAILED; play it with --seed {seed} --trace");
            if ledger {
                println!("found: seed {seed}: {}", violations[0]);
            }
            violations.iter().for_each(|what| println!("    {what}"));
        }
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            eprintln!("{} of {seeds} seeds, {failed} failed", seed - from + 1);
        }
    }
    println!(
        "{seeds} seeds: {} records ({} acknowledged), {} committed transactions, {} assignments of the scripted groups, {} deliveries to share groups, {} crashes and restarts, {} storage faults, {} steps, {:.0} s simulated in {:.1} s",
        totals.records,
        totals.acknowledged,
        totals.transactions,
        totals.assignments,
        totals.deliveries,
        totals.crashes,
        totals.faults,
        totals.steps,
        totals.simulated_us as f64 / 1e6,
        start.elapsed().as_secs_f64(),
    );
    if ledger {
        println!(
            "ledger: sim | {seeds} seeds | {failed} | seeds from {from}; {} records acknowledged, {} crashes and restarts, {} storage faults, {:.0} s simulated in {:.0} s",
            totals.acknowledged,
            totals.crashes,
            totals.faults,
            totals.simulated_us as f64 / 1e6,
            start.elapsed().as_secs_f64(),
        );
    }
    if planted {
        failed += missed_bugs();
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

/// Plants every bug and tells which were found; the number of those that weren't.
fn missed_bugs() -> u64 {
    let mut missed = 0;
    for bug in Bug::ALL {
        let options = Options {
            trace: false,
            planted: Some(bug),
        };
        let found = (0..PLANTED_SEEDS).find_map(|seed| {
            let first = run(seed, options).violations.into_iter().next()?;
            Some((seed, first))
        });
        match found {
            Some((seed, what)) => println!("planted {bug:?}: found at seed {seed}: {what}"),
            None => {
                missed += 1;
                println!("planted {bug:?}: NOT FOUND in {PLANTED_SEEDS} seeds");
            }
        }
    }
    missed
}
