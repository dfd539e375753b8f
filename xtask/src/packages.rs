//! `cargo xtask wheel` and `cargo xtask npm-pack`: the Python wheel and the npm package, in `dist/`.

use crate::{
    setup,
    shell::{Outcome, cargo, command, output, root, run, run_quietly, step, target_dir},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Builds the wheel; prints where it is.
pub fn wheel(_args: &[String]) -> Outcome {
    let wheel = build_wheel()?;
    println!("{}", wheel.display());
    Ok(())
}

/// Builds the npm package; prints where it is.
pub fn npm_pack(_args: &[String]) -> Outcome {
    let package = build_npm_package()?;
    println!("{}", package.display());
    Ok(())
}

/// The wheel's path, built anew.
pub fn build_wheel() -> Outcome<PathBuf> {
    let python = setup::python()?;
    step("building the Python wheel");
    let dist = dist_dir("whl")?;
    run_quietly(
        command(&python)
            .args([
                "-m",
                "maturin",
                "build",
                "--quiet",
                "--release",
                "--manifest-path",
                "bindings-python/Cargo.toml",
            ])
            .arg("--out")
            .arg(&dist)
            .env("CARGO_TARGET_DIR", target_dir()),
    )?;
    newest(&dist, "whl")
}

/// The Python that has the current wheel installed.
pub fn python_with_wheel() -> Outcome<PathBuf> {
    let python = setup::python()?;
    let wheel = build_wheel()?;
    run_quietly(
        command(&python)
            .args([
                "-m",
                "pip",
                "install",
                "-q",
                "--force-reinstall",
                "--no-deps",
            ])
            .arg(wheel),
    )?;
    Ok(python)
}

/// Builds the Node addon in place: `bindings-node` can then be required as it is.
pub fn build_node_addon() -> Outcome {
    setup::node()?;
    step("building the Node addon");
    run(cargo().args(["build", "--quiet", "--release", "--package", "ottla-node"]))?;
    let addon = root().join("bindings-node/ottla.node");
    // A new file rather than new contents: a process that has the old one mapped keeps it.
    let _ = fs::remove_file(&addon);
    fs::copy(target_dir().join("release/libottla_node.so"), &addon)
        .map(drop)
        .map_err(|e| format!("{}: {e}", addon.display()))
}

/// Lets `import 'ottla'` find the package as an installed one would be found.
pub fn link_node_package(node_modules: &Path) -> Outcome {
    fs::create_dir_all(node_modules).map_err(|e| format!("{}: {e}", node_modules.display()))?;
    let link = node_modules.join("ottla");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(root().join("bindings-node"), &link)
        .map_err(|e| format!("{}: {e}", link.display()))
}

/// The package's path, built anew.
pub fn build_npm_package() -> Outcome<PathBuf> {
    build_node_addon()?;
    step("packing the npm package");
    setup::programs(&[("strip", "binutils")])?;
    // The debug information is most of it, and its users have no use for it.
    run(command("strip").args(["--strip-debug", "bindings-node/ottla.node"]))?;
    let dist = dist_dir("tgz")?;
    output(
        command("npm")
            .current_dir(root().join("bindings-node"))
            .args(["pack", "--silent", "--pack-destination"])
            .arg(&dist),
    )?;
    newest(&dist, "tgz")
}

/// `dist/` without older packages of this kind.
fn dist_dir(kind: &str) -> Outcome<PathBuf> {
    let dist = root().join("dist");
    fs::create_dir_all(&dist).map_err(|e| format!("{}: {e}", dist.display()))?;
    for old in files(&dist, kind)? {
        fs::remove_file(&old).map_err(|e| format!("{}: {e}", old.display()))?;
    }
    Ok(dist)
}

fn newest(dist: &PathBuf, kind: &str) -> Outcome<PathBuf> {
    files(dist, kind)?
        .pop()
        .ok_or_else(|| format!("no .{kind} file was built"))
}

fn files(dir: &PathBuf, kind: &str) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|x| x == kind))
        .collect())
}
