//! The `ottla` program.

mod promote;

use std::process::ExitCode;

const USAGE: &str = "\
usage: ottla COMMAND

  promote DIR [--json]   prepare a data directory for a JVM Kafka, for when one machine is no longer enough
  help                   this text
  version                the version";

/// What a command ends with, when it doesn't end well.
enum Failure {
    /// The command can't be understood: exit code 2.
    Usage(String),
    /// It could not be done: exit code 1.
    Failed(String),
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", &args[..]),
    };
    let result = match command {
        "promote" => promote::main(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        "version" | "--version" | "-V" => {
            println!("ottla {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        "" => Err(Failure::Usage("a command is missing".into())),
        other => Err(Failure::Usage(format!("no command is called {other}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => {
            eprintln!("ottla {command}: {why}");
            ExitCode::FAILURE
        }
        Err(Failure::Usage(why)) => {
            eprintln!("ottla: {why}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
