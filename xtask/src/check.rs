//! `cargo xtask check [--no-wasm]`: what must hold before a commit, without running a test.

use crate::shell::{Outcome, cargo, command, has, output, run, step, target_dir};

/// The crates below the driver: no clock, thread, socket or file can be named in them, so they build for wasm32 too.
const BELOW_THE_DRIVER: [&str; 5] = [
    "ottla-record",
    "ottla-protocol",
    "ottla-log",
    "ottla-broker",
    "ottla-client",
];

/// Runs the command.
pub fn main(args: &[String]) -> Outcome {
    let wasm = match args {
        [] => true,
        [flag] if flag == "--no-wasm" => false,
        _ => return Err("usage: cargo xtask check [--no-wasm]".into()),
    };
    step("format");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    step("generated files are current");
    crate::generate::main(&["--check".into()])?;
    step("clippy");
    run(cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    step("docs");
    run(cargo()
        .args([
            "doc",
            "--quiet",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ])
        .env(
            "RUSTDOCFLAGS",
            "-D warnings -A rustdoc::private_intra_doc_links",
        ))?;
    if wasm { wasm32() } else { Ok(()) }
}

/// Compiles the crates below the driver for wasm32, with the standard library that is there: rustup's, or Debian's
/// (`rustc-web`, `cargo-web`, `rust-web-src`, which builds it). Without either, says so in one line.
fn wasm32() -> Outcome {
    const TARGET: &str = "wasm32-unknown-unknown";
    let packages = BELOW_THE_DRIVER.iter().flat_map(|name| ["--package", name]);
    let sysroot = output(command("rustc").args(["--print", "sysroot"]))?;
    if std::path::Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(TARGET)
        .exists()
    {
        step("wasm32, with rustup's standard library");
        return run(cargo()
            .args(["check", "--quiet", "--target", TARGET])
            .args(packages));
    }
    let debian = std::path::Path::new("/usr/bin/cargo");
    if !debian_has_sources() {
        crate::setup::optional_packages(&["rustc-web", "cargo-web", "rust-web-src", "lld"]);
    }
    if !debian_has_sources() || !debian.exists() {
        println!(
            "skipped: wasm32 (no standard library for it: rustup target add {TARGET}, or apt-get install rustc-web cargo-web rust-web-src lld)"
        );
        return Ok(());
    }
    step("wasm32, with Debian's standard library");
    run(command(debian)
        .args([
            "check",
            "--quiet",
            "-Zbuild-std=std,panic_abort",
            "--target",
            TARGET,
        ])
        .args(packages)
        .env("CARGO_TARGET_DIR", target_dir().join("wasm"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", "/usr/bin/rustc")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld"))
}

/// Whether Debian's compiler is there with the sources of its standard library.
fn debian_has_sources() -> bool {
    has("/usr/bin/rustc")
        && std::fs::read_dir("/usr/src").is_ok_and(|mut entries| {
            entries.any(|entry| {
                entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("rustc-1."))
            })
        })
}
