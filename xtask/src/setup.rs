//! What the other commands need on the machine: system packages, a Python virtual environment, node_modules.
//!
//! Everything lands inside the repository (`target/venv`, `bindings-node/node_modules`), but for system packages,
//! which are installed through apt when this runs as root and otherwise named in one line to run by hand.

use crate::shell::{Outcome, command, has, output, root, run_quietly, step, target_dir};
use std::path::{Path, PathBuf};

/// Makes sure that each `(program, Debian package)` is there.
pub fn programs(wanted: &[(&str, &str)]) -> Outcome {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| !answers(program))
        .map(|&(_, package)| package)
        .collect();
    packages(&missing)
}

/// Whether a program is on the path; not every one of them knows `--version`.
fn answers(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Installs Debian packages, or says how.
fn packages(missing: &[&str]) -> Outcome {
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let by_hand =
        format!("install what is missing, then try again:  sudo apt-get install -y {list}");
    let is_root = output(command("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root || !has("apt-get") {
        return Err(by_hand);
    }
    step(&format!("installing {list}"));
    // An old package list is the usual reason for a failure: try with it first, it is much faster.
    let install = || {
        run_quietly(
            command("apt-get")
                .args(["install", "-y", "--no-install-recommends"])
                .args(missing)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    if install().is_ok() {
        return Ok(());
    }
    run_quietly(command("apt-get").arg("update"))
        .and_then(|()| install())
        .map_err(|error| format!("{error}; {by_hand}"))
}

/// Installs Debian packages if that is possible; their absence is no error.
pub fn optional_packages(names: &[&str]) {
    if let Err(reason) = packages(names) {
        eprintln!("{reason}");
    }
}

/// What a C program needs to be built.
pub fn c_compiler() -> Outcome {
    programs(&[
        ("cc", "gcc"),
        ("make", "make"),
        ("pkg-config", "pkg-config"),
    ])
}

/// The virtual environment's Python, with the packages of `tests/requirements.txt` in it.
pub fn python() -> Outcome<PathBuf> {
    programs(&[("python3", "python3")])?;
    let venv = target_dir().join("venv");
    let python = venv.join("bin/python");
    let stamp = venv.join("requirements.stamp");
    let wanted = read(&root().join("tests/requirements.txt"))?;
    if std::fs::read_to_string(&stamp).is_ok_and(|had| had == wanted) {
        return Ok(python);
    }
    step("making a Python virtual environment in target/venv");
    virtual_environment(&venv)?;
    run_quietly(command(&python).args([
        "-m",
        "pip",
        "install",
        "-q",
        "-r",
        "tests/requirements.txt",
    ]))?;
    std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    Ok(python)
}

/// Makes an empty virtual environment.
pub fn virtual_environment(at: &Path) -> Outcome {
    let make = || run_quietly(command("python3").args(["-m", "venv"]).arg(at));
    if make().is_ok() {
        return Ok(());
    }
    packages(&["python3-venv"])?;
    make()
}

/// Makes sure that each `(header, Debian package)` of a C library is there.
pub fn libraries(wanted: &[(&str, &str)]) -> Outcome {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(header, _)| {
            let has = command("cc")
                .args(["-E", "-include", header, "-x", "c", "/dev/null"])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .status();
            !has.is_ok_and(|status| status.success())
        })
        .map(|&(_, package)| package)
        .collect();
    packages(&missing)
}

/// The node-gyp that npm brings.
pub fn node_gyp() -> Outcome<PathBuf> {
    let modules = output(command("npm").args(["root", "--global"]))?;
    let path = Path::new(modules.trim()).join("npm/node_modules/node-gyp/bin/node-gyp.js");
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("npm has no node-gyp at {}", path.display()))
}

/// Node's programs and the packages of `bindings-node/package.json`.
pub fn node() -> Outcome {
    programs(&[("node", "nodejs"), ("npm", "npm")])?;
    let dir = root().join("bindings-node");
    let stamp = dir.join("node_modules/.lock.stamp");
    let wanted = read(&dir.join("package-lock.json"))?;
    if std::fs::read_to_string(&stamp).is_ok_and(|had| had == wanted) {
        return Ok(());
    }
    step("installing the Node packages of bindings-node");
    run_quietly(command("npm").current_dir(&dir).args([
        "ci",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]))?;
    std::fs::create_dir_all(dir.join("node_modules"))
        .map_err(|e| format!("{}: {e}", dir.display()))?;
    std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))
}

fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}
