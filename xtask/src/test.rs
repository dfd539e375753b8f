//! `cargo xtask test [SUITE …]`: every test of every language, and the simulator. CI runs just this.

mod beside;

use crate::{
    clients, demo, install_c, java, packages, scenarios, setup,
    shell::{Outcome, cargo, command, has, root, run, step, target_dir},
    torture,
};
use beside::Beside;
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// A suite's name, what it covers, and how it runs.
type Suite = (&'static str, &'static str, fn() -> Outcome);

/// The suites in the order in which they are told of: the fast ones that find most come first.
const SUITES: [Suite; 12] = [
    (
        "rust",
        "unit, integration and documentation tests of the workspace",
        rust,
    ),
    (
        "sim",
        "2,000 simulated runs, 20 of them twice and bit for bit alike, and the planted bugs",
        sim,
    ),
    ("c", "the C library: its tests, and Debian's kcat on it", c),
    ("python", "the wheel: types and tests", python),
    ("node", "the npm package: types and tests", node),
    (
        "torture",
        "a slice of each durability rig: kills, power cuts (as root), flipped bytes, crash states",
        torture::slice,
    ),
    (
        "jvm",
        "Kafka's tools, a JVM Kafka and its clients on Ottla's directory, and Ottla on theirs",
        jvm,
    ),
    (
        "java",
        "the Java client, Kafka's tools, Streams, Connect and Flume on `ottla serve` (docs/tools.md)",
        || java::programs(&[]),
    ),
    (
        "differential",
        "the same requests, good and bad, at every version, to a JVM Kafka and to Ottla",
        differential,
    ),
    (
        "scenarios",
        "one list, written by each language and read by each (docs/internals/scenarios.md)",
        scenarios::suite,
    ),
    (
        "clients",
        "unmodified clients from their registries against `ottla serve` (docs/clients.md), and the control",
        clients::suite,
    ),
    (
        "demo",
        "the demo, on a log of this machine and on standard input",
        demo,
    ),
];

/// When all suites run, these begin earlier, beside others: `(suite, the one before which it begins)`. They wait for disks and
/// for other programs most of the time, and what they say is kept until it is their turn.
const BESIDE: [(&str, &str); 2] = [("torture", "c"), ("clients", "jvm")];

/// Runs all suites, or those that are named; `java` takes arguments of its own.
pub fn main(args: &[String]) -> Outcome {
    let known = SUITES.map(|(name, ..)| name);
    if let [suite, rest @ ..] = args
        && suite == "java"
        && rest.iter().any(|arg| !known.contains(&arg.as_str()))
    {
        return java::programs(rest);
    }
    if let Some(unknown) = args.iter().find(|arg| !known.contains(&arg.as_str())) {
        return Err(format!(
            "no suite is called {unknown}; there are: {}",
            known.join(", ")
        ));
    }
    let (mut passed, mut failed) = (0, Vec::new());
    let mut beside: Vec<Beside> = Vec::new();
    for (name, what, suite) in SUITES {
        if !args.is_empty() && !args.iter().any(|arg| arg == name) {
            continue;
        }
        let begin = BESIDE.iter().filter(|(_, before)| *before == name);
        for (other, _) in begin.filter(|_| args.is_empty()) {
            eprintln!("{other}: begins beside what follows");
            beside.push(Beside::begin(other)?);
        }
        step(&format!("{name}: {what}"));
        let begun = beside.iter().position(|other| other.suite == name);
        let (mut start, processors) = (Instant::now(), processor_seconds());
        let outcome = match begun.map(|at| beside.remove(at)) {
            Some(other) => {
                start = other.start;
                other.finish()
            }
            None => suite(),
        };
        let took = format!(
            "in {:.0} s, {:.0} s of them on a processor",
            start.elapsed().as_secs_f64(),
            processor_seconds() - processors
        );
        match outcome {
            Ok(()) => {
                passed += 1;
                eprintln!("{name}: passed {took}");
            }
            Err(error) => {
                eprintln!("{name}: FAILED {took}: {error}");
                failed.push(name);
            }
        }
    }
    println!("test suites:\n{passed} passed, {} failed", failed.len());
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "failed: {}; run one alone: cargo xtask test {}",
            failed.join(", "),
            failed[0]
        ))
    }
}

/// What the programs that this one ran, and theirs, have used of all processors together: a suite far below its wall time
/// waits, one near twice of it has both processors of a small machine. 0 where the system doesn't tell.
fn processor_seconds() -> f64 {
    /// Linux tells times to programs in this unit, whatever its own timer does.
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program comes second, in parentheses, and may hold anything.
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let waited_for = after_name.split_whitespace().skip(13).take(2);
    waited_for
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS_PER_SECOND
}

fn rust() -> Outcome {
    // What tests leave out where it is missing; in CI they don't.
    if let Err(why) = setup::programs(&[("kcat", "kcat"), ("prlimit", "util-linux")]) {
        if std::env::var_os("CI").is_some() {
            return Err(why);
        }
        eprintln!("rust: {why}");
    }
    if Path::new("/dev/fuse").exists() {
        let wanted = [("sshfs", "sshfs"), ("sshfs", "openssh-sftp-server")];
        if let Err(why) = setup::programs(&wanted) {
            eprintln!("rust: {why}");
        }
    }
    run(&mut workspace_tests())
}

/// The workspace's tests, all of them until a target is named. Whoever wants one takes it from here: with another choice of
/// packages the dependencies have other features, and all of the workspace would be built once more.
pub fn workspace_tests() -> Command {
    let mut command = cargo();
    command.args(["test", "--quiet", "--workspace"]);
    // The Python and Node extensions have their tests on the other side of the border.
    command.args(["--exclude", "ottla-python", "--exclude", "ottla-node"]);
    command
}

fn sim() -> Outcome {
    run(cargo().args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "ottla-sim",
        "--",
        "--seeds",
        "2000",
        "--twice",
        "20",
        "--planted",
    ]))
}

fn c() -> Outcome {
    setup::c_compiler()?;
    // A C++ compiler reads the header, too.
    setup::programs(&[("c++", "g++"), ("kcat", "kcat")])?;
    let prefix = target_dir().join("test/prefix");
    install_c::install(&prefix)?;
    run(command("bash")
        .arg("tests/c/run")
        .arg(&prefix)
        .arg(target_dir().join("test")))
}

fn demo() -> Outcome {
    demo::main(&[])?;
    let text =
        fs::read_to_string(root().join("CHANGELOG.md")).map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut asked = command(program)
        .args(["demo", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the demo can't be started: {error}"))?;
    if let Some(mut stdin) = asked.stdin.take() {
        stdin
            .write_all(text.as_bytes())
            .map_err(|error| format!("the demo's standard input: {error}"))?;
    }
    match asked.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the demo on standard input: {status}")),
        Err(error) => Err(error.to_string()),
    }
}

fn python() -> Outcome {
    let python = packages::python_with_wheel()?;
    run(command(&python).args(["-m", "pytest", "-q", "bindings-python/tests"]))?;
    run(command(&python).args([
        "-m",
        "mypy",
        "--strict",
        "bindings-python/tests/typed.py",
        "demo/count.py",
    ]))?;
    run(command(&python).args(["-m", "mypy.stubtest", "ottla"]))
}

fn node() -> Outcome {
    packages::build_node_addon()?;
    run(command("npm").args(["--prefix", "bindings-node", "test", "--silent"]))
}

/// Kafka's classes and the tests' own, from Maven (`tests/jvm/pom.xml`); `None` where there is no Java, and that is not CI.
pub fn jvm_classpath(suite: &str) -> Outcome<Option<String>> {
    if let Some(missing) = ["java", "mvn"].iter().find(|program| !has(program)) {
        let why = format!("{missing} is missing (Debian: openjdk-17-jdk-headless, maven)");
        if std::env::var_os("CI").is_some() {
            return Err(why);
        }
        eprintln!("{suite}: skipped, since {why}");
        return Ok(None);
    }
    let built = target_dir().join("jvm");
    let classpath = built.join("classpath");
    run(command("mvn")
        .args([
            "--batch-mode",
            "--quiet",
            "--file",
            "tests/jvm/pom.xml",
            "compile",
            "dependency:build-classpath",
        ])
        .arg(format!("-Dottla.target={}", built.display()))
        .arg(format!("-Dmdep.outputFile={}", classpath.display())))?;
    let classes = std::fs::read_to_string(&classpath)
        .map_err(|error| format!("{}: {error}", classpath.display()))?;
    let own = built.join("classes");
    Ok(Some(format!("{}:{}", own.display(), classes.trim())))
}

fn jvm() -> Outcome {
    let Some(classpath) = jvm_classpath("jvm")? else {
        return Ok(());
    };
    run(workspace_tests()
        .args(["--test", "jvm"])
        .env("OTTLA_JVM_CLASSPATH", classpath)
        .env("OTTLA_JVM_WORK", target_dir().join("test/jvm")))
}

/// The comparison, and its control.
fn differential() -> Outcome {
    let Some(classpath) = jvm_classpath("differential")? else {
        return Ok(());
    };
    let compare = |more: &[&str]| {
        run(workspace_tests()
            .args(["--test", "differential", "--"])
            .args(more)
            .env("OTTLA_JVM_CLASSPATH", &classpath)
            .env(
                "OTTLA_DIFFERENTIAL_WORK",
                target_dir().join("test/differential"),
            ))
    };
    compare(&[])?;
    compare(&["--control", "metadata", "produce, refused"])
}
