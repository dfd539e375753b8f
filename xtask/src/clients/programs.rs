//! Installing the clients: each from its registry, with its ordinary tool, in the pinned version.

use super::list::Client;
use crate::{
    setup,
    shell::{Outcome, command, root, run_quietly, step, target_dir},
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What is needed to run clients of these kinds; all of it is under the target directory.
pub fn prepare(clients: &[&Client]) -> Outcome {
    let kinds: BTreeSet<&str> = clients.iter().map(|c| c.program.0.as_str()).collect();
    let named = |name: &str| clients.iter().any(|client| client.name == name);
    if named("kcat") {
        setup::programs(&[("kcat", "kcat")])?;
    }
    let steps: Vec<fn() -> Outcome> = kinds
        .into_iter()
        .map(|kind| match kind {
            "python" => Ok(python as fn() -> Outcome),
            "node" if named("confluent-js") => Ok(node_with_confluent as fn() -> Outcome),
            "node" => Ok(node as fn() -> Outcome),
            "go" => Ok(go as fn() -> Outcome),
            "rust" => Ok(rust as fn() -> Outcome),
            other => Err(format!("clients.toml: what runs {other}?")),
        })
        .collect::<Outcome<_>>()?;
    // They wait for downloads and compilers in turn: two at a time.
    std::thread::scope(|scope| {
        let started: Vec<_> = steps.into_iter().map(|step| scope.spawn(step)).collect();
        let done: Vec<Outcome> = started
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err("a thread panicked".into())))
            .collect();
        done.into_iter().collect()
    })
}

/// How a client's program is started.
pub fn program(client: &Client) -> Command {
    let (kind, name) = (client.program.0.as_str(), client.program.1.as_str());
    let script = |interpreter: PathBuf| {
        let mut command = command(interpreter);
        command.arg(work().join(name));
        command
    };
    match kind {
        "python" => script(work().join("python/venv/bin/python")),
        "node" => script(node_program()),
        "go" => command(work().join("go").join(name)),
        _ => command(work().join("rust/debug").join(name)),
    }
}

/// Where the programs are installed and built.
fn work() -> PathBuf {
    target_dir().join("clients")
}

fn source(name: &str) -> PathBuf {
    root().join("tests/clients").join(name)
}

/// Node from npm: the clients ask for a newer one than many machines have.
fn node_program() -> PathBuf {
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x64",
    };
    work().join(format!("node/node_modules/node-linux-{arch}/bin/node"))
}

/// Copies a directory's files to where they are run; what else is there stays.
fn copy(name: &str) -> Outcome<PathBuf> {
    let to = work().join(name);
    let failed = |e: std::io::Error| format!("{}: {e}", to.display());
    fs::create_dir_all(&to).map_err(failed)?;
    for entry in fs::read_dir(source(name)).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap_or_default())).map_err(failed)?;
        }
    }
    Ok(to)
}

/// Runs `install` unless it was run for the same files before.
fn once(dir: &Path, files: &[&str], install: impl FnOnce() -> Outcome) -> Outcome {
    let stamp = dir.join(".installed");
    let mut wanted = String::new();
    for file in files {
        wanted += &fs::read_to_string(dir.join(file)).map_err(|e| format!("{file}: {e}"))?;
    }
    if fs::read_to_string(&stamp).is_ok_and(|had| had == wanted) {
        return Ok(());
    }
    install()?;
    fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))
}

fn python() -> Outcome {
    setup::programs(&[("python3", "python3")])?;
    let dir = copy("python")?;
    once(&dir, &["requirements.txt"], || {
        step("clients: installing the Python ones");
        let venv = dir.join("venv");
        setup::virtual_environment(&venv)?;
        run_quietly(
            command(venv.join("bin/python"))
                .args(["-m", "pip", "install", "-q", "-r"])
                .arg(dir.join("requirements.txt")),
        )
    })
}

fn node() -> Outcome {
    setup::programs(&[("node", "nodejs"), ("npm", "npm")])?;
    let dir = copy("node")?;
    once(&dir, &["package-lock.json"], || {
        step("clients: installing the Node ones");
        run_quietly(command("npm").current_dir(&dir).args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]))
    })
}

/// Confluent's package brings librdkafka's sources, and binaries only from a place that is no registry: it is built.
fn node_with_confluent() -> Outcome {
    node()?;
    let package = work().join("node/node_modules/@confluentinc/kafka-javascript");
    once(&package, &["package.json"], || {
        step("clients: building @confluentinc/kafka-javascript");
        setup::c_compiler()?;
        setup::libraries(&[
            ("zlib.h", "zlib1g-dev"),
            ("zstd.h", "libzstd-dev"),
            ("openssl/ssl.h", "libssl-dev"),
            ("curl/curl.h", "libcurl4-openssl-dev"),
        ])?;
        setup::programs(&[("g++", "g++"), ("python3", "python3")])?;
        let node = node_program();
        let home = node.parent().and_then(Path::parent).unwrap_or(&node);
        let mut paths = vec![home.join("bin")];
        paths.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        let path = std::env::join_paths(paths).map_err(|e| e.to_string())?;
        run_quietly(
            command(&node)
                .current_dir(&package)
                .arg(setup::node_gyp()?)
                .arg("rebuild")
                .arg(format!("--nodedir={}", home.display()))
                .env("CKJS_LINKING", "dynamic")
                .env("CFLAGS", "-O1")
                .env("CXXFLAGS", "-O1")
                .env("PATH", path),
        )
    })
}

fn go() -> Outcome {
    let go = ["go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go"]
        .into_iter()
        .find(|program| Command::new(program).arg("version").output().is_ok());
    let go = go.ok_or("go is missing (Debian: golang-go)")?;
    step("clients: building the Go ones");
    run_quietly(
        command(go)
            .current_dir(source("go"))
            .args(["build", "-mod=readonly", "-o"])
            .arg(work().join("go/"))
            .args(["./franz", "./sarama"]),
    )
}

fn rust() -> Outcome {
    step("clients: building rskafka's");
    run_quietly(
        command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "--locked", "--manifest-path"])
            .arg(source("rust/Cargo.toml"))
            .env("CARGO_TARGET_DIR", work().join("rust")),
    )
}
