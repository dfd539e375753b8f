//! The project's own commands: `cargo xtask help`.

mod r#gen;

use std::process::ExitCode;

const HELP: &str = "cargo xtask COMMAND

  gen [--check]   write core/protocol/src/generated from core/protocol/messages;
                  with --check write nothing and fail when the files there are stale
  help            this text";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("gen") => r#gen::run(&args[1..]),
        None | Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        Some(other) => Err(format!("no such command: {other}\n\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
