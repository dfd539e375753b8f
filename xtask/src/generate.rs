//! `cargo xtask gen [--check]`: what is generated and committed, made again or compared.

use crate::{
    clients, r#gen, header,
    shell::{Outcome, cargo, output, root},
};
use std::{fs, path::Path};

/// Message types and codecs from their field tables, CONFIGURATION.md and BROKER_CONFIGURATION.md from the tables of settings,
/// rdkafka.h from the C library's source, and docs/clients.md from the lists of tests/clients.
pub fn main(args: &[String]) -> Outcome {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("usage: cargo xtask gen [--check]".into()),
    };
    r#gen::run(args)?;
    write_or_compare(
        &root().join("docs/clients.md"),
        &clients::document()?,
        check,
    )?;
    let path = root().join("include/librdkafka/rdkafka.h");
    write_or_compare(&path, &header::text(&root())?, check)?;
    for (package, example, file) in [
        ("ottla", "configuration_md", "CONFIGURATION.md"),
        (
            "ottla-broker",
            "broker_configuration_md",
            "BROKER_CONFIGURATION.md",
        ),
    ] {
        let text =
            output(cargo().args(["run", "--quiet", "--package", package, "--example", example]))?;
        write_or_compare(&root().join(file), &text, check)?;
    }
    Ok(())
}

/// Writes a generated file, or says that it is stale.
pub fn write_or_compare(path: &Path, text: &str, check: bool) -> Outcome {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    if check {
        return Err(format!("{} is stale: run cargo xtask gen", path.display()));
    }
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
