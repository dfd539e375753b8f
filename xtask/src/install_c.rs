//! `cargo xtask install-c --prefix DIR`: headers, shared and static library, pkg-config file.

use crate::shell::{Outcome, cargo, command, root, run, step, target_dir};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The version of librdkafka whose C API this library offers; `rd_kafka_version()` says the same.
pub const API_VERSION: &str = "2.15.0";

/// Runs the command.
pub fn main(args: &[String]) -> Outcome {
    let prefix = match args {
        [flag, dir] if flag == "--prefix" => PathBuf::from(dir),
        _ => return Err("usage: cargo xtask install-c --prefix DIR".into()),
    };
    install(&prefix)?;
    println!(
        "Installed. Build against it:\n  cc app.c $(PKG_CONFIG_PATH={0}/lib/pkgconfig pkg-config --cflags --libs rdkafka)\n\
         Run any librdkafka program on it:\n  LD_LIBRARY_PATH={0}/lib kcat -b memory: -L",
        prefix.display()
    );
    Ok(())
}

/// Builds the C library in release form; returns the folder that holds `librdkafka.so` and `librdkafka.a`.
pub fn build() -> Outcome<PathBuf> {
    step("building the C library");
    run(cargo().args(["build", "--quiet", "--release", "--package", "ottla-c"]))?;
    Ok(target_dir().join("release"))
}

/// Builds and copies everything below `prefix`.
pub fn install(prefix: &Path) -> Outcome {
    let built = build()?;
    fs::create_dir_all(prefix).map_err(|e| format!("{}: {e}", prefix.display()))?;
    let prefix = prefix
        .canonicalize()
        .map_err(|e| format!("{}: {e}", prefix.display()))?;
    let (lib, include) = (prefix.join("lib"), prefix.join("include/librdkafka"));
    let pkgconfig = lib.join("pkgconfig");
    for dir in [&pkgconfig, &include] {
        fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    copy(
        &root().join("include/librdkafka/rdkafka.h"),
        &include.join("rdkafka.h"),
    )?;
    copy(&built.join("librdkafka.so"), &lib.join("librdkafka.so.1"))?;
    copy(&built.join("librdkafka.a"), &lib.join("librdkafka.a"))?;
    let link = lib.join("librdkafka.so");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink("librdkafka.so.1", &link)
        .map_err(|e| format!("{}: {e}", link.display()))?;
    for (name, libs) in [
        ("rdkafka", ""),
        ("rdkafka-static", " -lm -ldl -lpthread -lrt"),
    ] {
        let file = pkgconfig.join(format!("{name}.pc"));
        let text = format!(
            "prefix={}\nlibdir=${{prefix}}/lib\nincludedir=${{prefix}}/include\n\n\
             Name: librdkafka\nDescription: Ottla: Kafka as a library, with librdkafka's C API\nVersion: {API_VERSION}\n\
             Cflags: -I${{includedir}}\nLibs: {}{libs}\n",
            prefix.display(),
            if libs.is_empty() {
                "-L${libdir} -lrdkafka"
            } else {
                "${libdir}/librdkafka.a"
            },
        );
        fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(())
}

/// Compiles `source`, a path in the repository, against what is installed below `prefix`.
pub fn compiler(prefix: &Path, flags: &[&str], source: &str, program: &Path) -> Command {
    let mut cc = command("cc");
    cc.args(flags)
        .arg("-o")
        .arg(program)
        .arg(source)
        .arg(format!("-I{}/include", prefix.display()))
        .arg(format!("-L{}/lib", prefix.display()))
        .arg("-lrdkafka");
    cc
}

/// As [`compiler`]; the program finds the library below `prefix` by itself.
pub fn compiler_with_rpath(prefix: &Path, flags: &[&str], source: &str, program: &Path) -> Command {
    let mut cc = compiler(prefix, flags, source, program);
    cc.arg(format!("-Wl,-rpath,{}/lib", prefix.display()));
    cc
}

/// Copies by way of a new file, so that a running program keeps the library that it has mapped.
fn copy(from: &Path, to: &Path) -> Outcome {
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh)
        .and_then(|_| fs::rename(&fresh, to))
        .map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}
