//! The project's own commands: `cargo xtask help`.

mod bench;
mod check;
mod clients;
mod demo;
mod r#gen;
mod generate;
mod header;
mod install_c;
mod java;
mod packages;
mod peers;
mod scenarios;
mod setup;
mod shell;
mod test;
mod torture;

use shell::Outcome;
use std::process::ExitCode;

/// Name, what it does, and the function.
type Command = (&'static str, &'static str, fn(&[String]) -> Outcome);

const COMMANDS: &[Command] = &[
    (
        "demo",
        "demo [FILE]: C, Python and Node share one durable broker on real data",
        demo::main,
    ),
    (
        "test",
        "test [SUITE …]: every test of every language, and the simulator",
        test::main,
    ),
    (
        "clients",
        "clients [CLIENT…] [--case NAME]… [--against ottla|jvm] [--server PROGRAM] [--bootstrap HOST:PORT] [--control] [--pending]: unmodified clients from their registries against `ottla serve`",
        clients::main,
    ),
    (
        "torture",
        "torture [RIG …] [--rounds N] [--minutes N]: kills, power cuts, flipped bytes, crash states, at length; docs/ledger.md keeps count",
        torture::main,
    ),
    (
        "check",
        "check [--no-wasm]: format, generated files, lints, docs, and the crates below the driver for wasm32",
        check::main,
    ),
    (
        "bench",
        "bench [peers] [--json] [--quick] [--log-gib N]: speed, beside the machine's own and the peers'; peers: the daemon beside a JVM Kafka",
        bench::main,
    ),
    (
        "install-c",
        "install-c --prefix DIR: header, shared and static library, pkg-config",
        install_c::main,
    ),
    (
        "wheel",
        "wheel: the Python wheel, in dist/",
        packages::wheel,
    ),
    (
        "npm-pack",
        "npm-pack: the npm package, in dist/",
        packages::npm_pack,
    ),
    (
        "gen",
        "gen [--check]: regenerates the committed generated files, or says which are stale",
        generate::main,
    ),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let name = args.first().map_or("help", String::as_str);
    let Some((.., run)) = COMMANDS.iter().find(|(known, ..)| *known == name) else {
        let help = matches!(name, "help" | "--help" | "-h");
        if !help {
            eprintln!("no command is called {name}");
        }
        println!("usage: cargo xtask COMMAND\n");
        COMMANDS
            .iter()
            .for_each(|(_, what, _)| println!("  {what}"));
        return if help {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        };
    };
    match run(&args[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
