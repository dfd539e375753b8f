//! `ottla-torture`: what the log must survive, done to it. `cargo xtask torture` runs the rigs and keeps the ledger; the page that
//! explains them is `docs/internals/torture.md`.

mod children;
mod direct;
mod dying;
mod flips;
mod history;
mod kill;
mod limits;
mod mark;
mod options;
mod power;
mod random;
mod reader;
mod report;
mod steps;
mod writer;

use options::Options;
use report::Report;
use std::process::ExitCode;

/// Name, what it does, and the function.
type Rig = (
    &'static str,
    &'static str,
    fn(&Options) -> Result<Report, String>,
);

const RIGS: &[Rig] = &[
    (
        "kill",
        "kill -9 of a process under load at random times [--rounds 1000]",
        kill::main,
    ),
    (
        "steps",
        "death at every operation of a scenario [--stride 1]",
        steps::main,
    ),
    (
        "syscalls",
        "the same at every system call, with strace [--stride 1] [--only fsync]",
        steps::syscalls,
    ),
    (
        "flips",
        "every byte of every file flipped, cut off, gone [--stride 1] [--only .index]",
        flips::main,
    ),
    (
        "limits",
        "full disks, too few descriptors, failed syncs, strangers' files [--only NAME]",
        limits::main,
    ),
    (
        "power",
        "power cuts on ext4 and xfs; as root [--rounds 300] [--only ext4]",
        power::main,
    ),
];

/// A process that a rig starts: its name, and the function.
type Role = (&'static str, fn(&Options) -> Result<(), String>);

const ROLES: &[Role] = &[
    ("writer", writer::main),
    ("reader", reader::main),
    ("scenario", steps::scenario),
    ("sender", limits::sender),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let name = args.first().map_or("", String::as_str);
    let options = match Options::parse(args.get(1..).unwrap_or_default()) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Some((_, role)) = ROLES.iter().find(|(known, _)| *known == name) {
        return match role(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let apart: Rig = (power::APART, "", power::apart);
    let Some((.., rig)) = RIGS
        .iter()
        .chain([&apart])
        .find(|(known, ..)| *known == name)
    else {
        eprintln!(
            "usage: ottla-torture RIG [--rounds N] [--minutes N] [--seed N] [--stride N] [--only WORD]…\n"
        );
        RIGS.iter()
            .for_each(|(name, what, _)| eprintln!("  {name:8} {what}"));
        return ExitCode::from(2);
    };
    match rig(&options) {
        Ok(report) => {
            report.ran.iter().for_each(|ran| println!("{ran}"));
            if let Some(why) = &report.skipped {
                println!("skipped: {name}: {why}");
            }
            report
                .found
                .iter()
                .for_each(|what| println!("found: {what}"));
            ExitCode::from(u8::from(!report.found.is_empty()))
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
