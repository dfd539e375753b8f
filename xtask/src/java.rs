//! Kafka's Java side against `ottla serve`, with all programs from Maven: `cargo xtask test java`.

use crate::{
    shell::{Outcome, command, has, run, target_dir},
    test::workspace_tests,
};
use std::path::PathBuf;

/// Compiles the Java programs and fetches what they need; where it is. Nothing without Java, except in CI.
fn built() -> Outcome<Option<PathBuf>> {
    if let Some(missing) = ["java", "mvn"].iter().find(|program| !has(program)) {
        let why = format!("{missing} is missing (Debian: openjdk-17-jdk-headless, maven)");
        if std::env::var_os("CI").is_some() {
            return Err(why);
        }
        eprintln!("skipped, since {why}");
        return Ok(None);
    }
    let built = target_dir().join("java");
    run(command("mvn")
        .args(["--batch-mode", "--quiet", "--file", "tests/java/pom.xml"])
        .args(["compile", "dependency:build-classpath"])
        .arg(format!("-Dottla.target={}", built.display())))?;
    Ok(Some(built))
}

/// The programs of Kafka's Java side on `ottla serve`; the arguments are those of `tests/java/main.rs`.
pub fn programs(args: &[String]) -> Outcome {
    let Some(built) = built()? else {
        return Ok(());
    };
    run(workspace_tests()
        .args(["--test", "java", "--"])
        .args(args)
        .env("OTTLA_JAVA_BUILT", built)
        .env("OTTLA_JAVA_WORK", target_dir().join("test/java")))
}
