//! The `ottla` program.

mod log;
mod metrics;
mod promote;
mod serve;

use std::process::ExitCode;

const USAGE: &str = "\
usage: ottla COMMAND

  serve [DIR]            a broker on TCP: clients of Kafka connect to it
  promote DIR [--json]   prepare a data directory for a JVM Kafka, for when one machine is no longer enough
  help [COMMAND]         this text, or a command's
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
    let wants_help = |arg: &String| arg == "--help" || arg == "-h";
    let result = match command {
        "serve" if rest.iter().any(wants_help) => {
            println!("{}", serve::USAGE);
            Ok(())
        }
        "serve" => serve::main(rest),
        "promote" if rest.iter().any(wants_help) => {
            println!("{USAGE}");
            Ok(())
        }
        "promote" => promote::main(rest),
        "help" if rest.first().is_some_and(|of| of == "serve") => {
            println!("{}", serve::USAGE);
            Ok(())
        }
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
            let usage = if command == "serve" {
                serve::USAGE
            } else {
                USAGE
            };
            eprintln!("ottla: {why}\n\n{usage}");
            ExitCode::from(2)
        }
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}
