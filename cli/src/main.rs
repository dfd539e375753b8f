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
  version                the version

Every command ends with exit code 0 when it did what it was asked, 1 when it could not, 2 when it can't be understood.

  ottla help serve";

const HELP_USAGE: &str = "\
usage: ottla help [COMMAND]

What the commands are, or one of them with its options, exit codes and an example. ottla COMMAND --help is the same.

  ottla help promote";

const VERSION_USAGE: &str = "\
usage: ottla version

Writes the version to standard output.

  ottla version";

/// A command, its help, and what does it.
struct Command {
    name: &'static str,
    usage: &'static str,
    run: fn(&[String]) -> Result<(), Failure>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "serve",
        usage: serve::USAGE,
        run: serve::main,
    },
    Command {
        name: "promote",
        usage: promote::USAGE,
        run: promote::main,
    },
    Command {
        name: "help",
        usage: HELP_USAGE,
        run: help,
    },
    Command {
        name: "version",
        usage: VERSION_USAGE,
        run: version,
    },
];

/// What a command ends with, when it doesn't end well.
enum Failure {
    /// The command can't be understood: exit code 2.
    Usage(String),
    /// It could not be done: exit code 1.
    Failed(String),
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((named, rest)) = args.split_first() else {
        return misunderstood("a command is missing", USAGE);
    };
    let named = match named.as_str() {
        "--help" | "-h" => "help",
        "--version" | "-V" => "version",
        name => name,
    };
    let Some(command) = command(named) else {
        return misunderstood(&format!("no command is called {named}"), USAGE);
    };
    if rest.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{}", command.usage);
        return ExitCode::SUCCESS;
    }
    match (command.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => {
            eprintln!("ottla {named}: {why}");
            ExitCode::FAILURE
        }
        Err(Failure::Usage(why)) => misunderstood(&why, command.usage),
    }
}

fn command(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

fn misunderstood(why: &str, usage: &str) -> ExitCode {
    eprintln!("ottla: {why}\n\n{usage}");
    ExitCode::from(2)
}

fn help(args: &[String]) -> Result<(), Failure> {
    let usage = match args {
        [] => USAGE,
        [of] => {
            let command = command(of);
            command
                .ok_or_else(|| Failure::Usage(format!("no command is called {of}")))?
                .usage
        }
        _ => return Err(Failure::Usage("help takes one command".into())),
    };
    println!("{usage}");
    Ok(())
}

fn version(args: &[String]) -> Result<(), Failure> {
    if !args.is_empty() {
        return Err(Failure::Usage("version takes no arguments".into()));
    }
    println!("ottla {}", env!("CARGO_PKG_VERSION"));
    Ok(())
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
