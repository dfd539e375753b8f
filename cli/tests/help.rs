//! What the `ottla` program says of itself, and its exit codes when it isn't understood.

use std::process::Command;

/// Exit code, standard output, standard error.
fn ottla(args: &[&str]) -> (i32, String, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(args)
        .output();
    let run = run.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        run.status.code().unwrap(),
        text(run.stdout),
        text(run.stderr),
    )
}

/// Each command, and what stands in its help and in no other one's.
const COMMANDS: [(&str, &str); 4] = [
    ("serve", "--listen HOST:PORT"),
    ("promote", "server_properties"),
    ("help", "ottla COMMAND --help is the same"),
    ("version", "Writes the version"),
];

#[test]
fn every_command_has_its_own_help() {
    let (code, general, _) = ottla(&["help"]);
    assert_eq!(code, 0);
    for (command, own) in COMMANDS {
        let listed = format!("\n  {command} ");
        assert!(general.contains(&listed), "{command}: {general}");
        let (code, help, error) = ottla(&["help", command]);
        assert_eq!((code, &*error), (0, ""), "{command}");
        let first = format!("usage: ottla {command}");
        assert!(help.starts_with(&first) && help.contains(own), "{help}");
        // The last line is an example.
        let example = help.trim_end().lines().last().unwrap();
        let example_is = |line: &str| line.starts_with("  ottla ") || line.starts_with("  kcat ");
        assert!(example_is(example), "{help}");
        for flag in ["--help", "-h"] {
            assert_eq!(ottla(&[command, flag]).1, help, "{command} {flag}");
        }
        for (other, of_other) in COMMANDS.iter().filter(|(other, _)| *other != command) {
            assert!(!help.contains(of_other), "{command} has {other}'s help");
        }
    }
    for command in ["serve", "promote"] {
        let help = ottla(&["help", command]).1;
        assert!(help.contains("\nExit codes: 0 "), "{help}");
    }
}

#[test]
fn every_option_that_is_taken_is_in_the_help() {
    for (command, source) in [
        ("serve", include_str!("../src/serve.rs")),
        ("promote", include_str!("../src/promote.rs")),
    ] {
        let help = ottla(&["help", command]).1;
        let arms = source.lines().map(str::trim);
        let options: Vec<&str> = arms
            .filter_map(|line| line.strip_prefix("\"--")?.split_once("\" =>"))
            .map(|(name, _)| name)
            .collect();
        assert!(!options.is_empty(), "{command}");
        for option in options {
            assert!(
                help.contains(&format!("\n  --{option} ")),
                "--{option}: {help}"
            );
        }
    }
}

#[test]
fn what_is_not_understood_gets_the_help_it_needs() {
    let cases: [(&[&str], &str, &str); 8] = [
        (&[], "a command is missing", "usage: ottla COMMAND"),
        (&["sreve"], "sreve", "usage: ottla COMMAND"),
        (&["help", "sreve"], "sreve", "usage: ottla help"),
        (&["help", "serve", "promote"], "one", "usage: ottla help"),
        (&["version", "1"], "no arguments", "usage: ottla version"),
        (&["serve", "--wrong"], "--wrong", "usage: ottla serve"),
        (&["promote", "--wrong"], "--wrong", "usage: ottla promote"),
        (&["promote"], "needs a directory", "usage: ottla promote"),
    ];
    for (args, why, usage) in cases {
        let (code, said, error) = ottla(args);
        assert_eq!((code, &*said), (2, ""), "{args:?}: {error}");
        let first = error.lines().next().unwrap();
        assert!(first.contains(why), "{args:?}: {error}");
        assert!(error.contains(usage), "{args:?}: {error}");
    }
}

#[test]
fn what_cannot_be_promoted_ends_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let (code, said, error) = ottla(&["promote", nowhere.to_str().unwrap()]);
    assert_eq!((code, &*said), (1, ""), "{error}");
    assert!(error.starts_with("ottla promote: "), "{error}");
    assert!(!nowhere.exists());
}

#[test]
fn the_version_is_that_of_the_package() {
    for arg in ["version", "--version", "-V"] {
        let told = format!("ottla {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(ottla(&[arg]), (0, told, String::new()), "{arg}");
    }
}
