//! Ottla's directory is Kafka's directory, both ways: `cargo xtask test jvm`.
//!
//! Ottla writes a directory; Kafka's own tools read every file of it without a complaint; a JVM Kafka in KRaft mode starts on it
//! and its clients read every record and committed offset; it goes on writing, compacts, commits and aborts transactions; and
//! Ottla opens what it left, changes it, and hands it over once more.

mod dump;
mod jvm;
mod quotas;
mod records;
mod writing;

use jvm::{Jvm, Kafka};
use records::{Contents, Isolation};
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// What a step ends with: nothing, or the sentence that says what is wrong.
pub type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let result = match args.get(1).map(String::as_str) {
        // This program again, as the process that is killed while it writes.
        Some("write-until-killed") => writing::until_killed(&args[2]),
        _ => prove(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

fn prove() -> Outcome {
    let jvm = Jvm::from_environment()?;
    let work = std::env::var_os("OTTLA_JVM_WORK")
        .map_or_else(|| std::env::temp_dir().join("ottla-jvm"), PathBuf::from);
    // The runner's flock file of an earlier run must not stand in the way of this one.
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let dir = work.join("data");
    let kafka = Kafka::new(jvm.clone(), &work);

    step("Ottla writes; once it is killed at it");
    writing::unclean(&dir)?;
    let killed = work.join("killed");
    copy(&dir, &killed)?;
    writing::clean(&dir)?;
    let written = records::read(&dir, Isolation::Uncommitted)?;
    writing::check(&dir, &written)?;
    println!(
        "  {} records in {} partitions",
        written.count(),
        written.ends.len()
    );

    step("Kafka's configuration tool sets quotas on Ottla's broker");
    let quotas = quotas::set(&jvm, &dir)?;

    step("Kafka's dump tool reads every file");
    dump::every_file(&jvm, &dir)?;
    dump::finds_damage(&jvm, &dir, &work.join("damaged"))?;
    dump::logs_of_a_killed_writer(&jvm, &killed)?;

    step("ottla promote");
    refusals(&work, &dir)?;
    let said = promote(&dir)?;
    expect(said.contains("\"promoted\":\"now\""), || {
        format!("promote said {said}")
    })?;
    expect(promote(&dir)? == said, || "promote twice differs".into())?;

    step("a JVM Kafka serves it");
    let broker = kafka.start(&dir)?;
    let in_use = ottla(&["promote", text(&dir)])?;
    expect(
        !in_use.0 && in_use.1.contains("in use by a JVM Kafka"),
        || format!("promoting what a JVM Kafka has open: {}", in_use.1),
    )?;
    let theirs = kafka.read("read_uncommitted")?;
    written.must_be(&theirs, "what Ottla wrote", "what Kafka's client read")?;
    quotas::must_be(&quotas, &quotas::told(&jvm, &kafka.bootstrap())?)?;
    for group in writing::GROUPS {
        let ours = records::committed(&killed_free(&dir, &work)?, group)?;
        let theirs = kafka.committed(group)?;
        expect(ours == theirs && !ours.is_empty(), || {
            format!("offsets of {group}: Ottla has {ours:?}, Kafka {theirs:?}")
        })?;
    }

    step("it writes, compacts, commits and aborts");
    kafka.write()?;
    let quotas = quotas::change(&jvm, &kafka.bootstrap())?;
    let uncommitted = kafka.read("read_uncommitted")?;
    let committed = kafka.read("read_committed")?;
    let groups = ["shop", "manual", "jvm.group", "jvm.transactional.group"];
    let offsets: Vec<_> = groups
        .iter()
        .map(|g| kafka.committed(g))
        .collect::<Result<_, _>>()?;
    let log = broker.stop()?;
    jvm::no_complaints(&log)?;

    step("Ottla opens what it left");
    let (ours, ours_committed) = reads_the_same(&dir, &uncommitted, &committed)?;
    fates(&ours, &ours_committed)?;
    for (group, theirs) in groups.iter().zip(&offsets) {
        let ours = records::committed(&dir, group)?;
        expect(ours == *theirs && !ours.is_empty(), || {
            format!("offsets of {group}: Kafka had {theirs:?}, Ottla {ours:?}")
        })?;
    }
    quotas::must_be(&quotas, &quotas::told_of(&jvm, &dir)?)?;

    step("Ottla goes on, and hands it over once more");
    expect(promote(&dir)?.contains("\"promoted\":\"already\""), || {
        "nothing has changed, so there is nothing to promote".into()
    })?;
    writing::after_kafka(&dir)?;
    let written = records::read(&dir, Isolation::Uncommitted)?;
    dump::every_file(&jvm, &dir)?;
    expect(promote(&dir)?.contains("\"promoted\":\"again\""), || {
        "there are new topics to promote".into()
    })?;
    let broker = kafka.start(&dir)?;
    let theirs = kafka.read("read_uncommitted")?;
    written.must_be(&theirs, "what Ottla wrote", "what Kafka's client read")?;
    quotas::must_be(&quotas, &quotas::told(&jvm, &kafka.bootstrap())?)?;
    println!("  {} records", theirs.count());

    step("Ottla opens what a killed JVM Kafka left");
    kafka.write_more()?;
    let uncommitted = kafka.read("read_uncommitted")?;
    let committed = kafka.read("read_committed")?;
    jvm::no_complaints(&broker.log())?;
    broker.kill()?;
    reads_the_same(&dir, &uncommitted, &committed)?;
    dump::every_file(&jvm, &dir)
}

/// Ottla reads in the directory what Kafka's client read of each isolation; what that is.
fn reads_the_same(
    dir: &Path,
    uncommitted: &Contents,
    committed: &Contents,
) -> Outcome<(Contents, Contents)> {
    let theirs = "what Kafka's client read";
    let ours = records::read(dir, Isolation::Uncommitted)?;
    uncommitted.must_be(&ours, theirs, "what Ottla read")?;
    let ours_committed = records::read(dir, Isolation::Committed)?;
    committed.must_be(&ours_committed, theirs, "what Ottla read as committed")?;
    println!(
        "  {} records, {} of them committed",
        ours.count(),
        ours_committed.count()
    );
    Ok((ours, ours_committed))
}

fn step(what: &str) {
    println!("-- {what}");
}

/// An error with these words unless it holds.
pub fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn text(path: &Path) -> &str {
    path.to_str()
        .expect("the test's own directories have names of letters")
}

/// Runs the program; whether it succeeded, and what it printed.
fn ottla(args: &[&str]) -> Outcome<(bool, String)> {
    let done = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(args)
        .output()
        .map_err(|error| format!("ottla: {error}"))?;
    let said = [done.stdout, done.stderr].concat();
    Ok((
        done.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

fn promote(dir: &Path) -> Outcome<String> {
    match ottla(&["promote", text(dir), "--json"])? {
        (true, said) => Ok(said),
        (false, why) => Err(why),
    }
}

/// What must not be promoted.
fn refusals(work: &Path, dir: &Path) -> Outcome {
    let empty = work.join("empty");
    std::fs::create_dir_all(&empty).map_err(|error| error.to_string())?;
    let open =
        ottla::Broker::open(&format!("file://{}", dir.display())).map_err(|e| e.to_string())?;
    for (path, words) in [
        (&empty, "no data directory"),
        (&work.join("nowhere"), "No such file"),
        (&work.join("killed"), "not closed cleanly"),
        (&dir.to_path_buf(), "is in use by process"),
    ] {
        let (succeeded, said) = ottla(&["promote", text(path)])?;
        expect(!succeeded && said.contains(words), || {
            format!(
                "promoting {} should say {words:?}, not: {said}",
                path.display()
            )
        })?;
    }
    drop(open);
    expect(
        std::fs::read_dir(&empty).is_ok_and(|mut entries| entries.next().is_none()),
        || "a directory that isn't ours was written to".into(),
    )
}

/// A copy of a directory that somebody has open, as if he had been killed.
fn killed_free(dir: &Path, work: &Path) -> Outcome<PathBuf> {
    let to = work.join("copy");
    let _ = std::fs::remove_dir_all(&to);
    copy(dir, &to)?;
    Ok(to)
}

/// Copies a directory.
pub fn copy(from: &Path, to: &Path) -> Outcome {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    expect(done.is_ok_and(|status| status.success()), || {
        format!("{} could not be copied", from.display())
    })
}

/// Aborted records are there, and are not among the committed ones; nothing is, behind an open transaction.
fn fates(all: &Contents, committed: &Contents) -> Outcome {
    let keys = |contents: &Contents, topic: &str| -> Vec<String> {
        let of_topic = contents.records.iter().filter(|((t, _), _)| t == topic);
        let lines = of_topic.flat_map(|(_, records)| records.values());
        lines.map(|record| record.key_text()).collect()
    };
    let count = |keys: &[String], fate: &str| keys.iter().filter(|k| k.starts_with(fate)).count();
    let (seen, trusted) = (
        keys(all, "jvm.transactions"),
        keys(committed, "jvm.transactions"),
    );
    expect(
        count(&seen, "aborted") == 80 && count(&seen, "committed") == 400,
        || format!("of the transactions' records {} are there", seen.len()),
    )?;
    expect(
        count(&trusted, "aborted") == 0 && count(&trusted, "committed") == 400,
        || {
            format!(
                "{} aborted records were read as committed",
                count(&trusted, "aborted")
            )
        },
    )?;
    expect(
        keys(all, "jvm.open") == ["before", "undecided", "behind"],
        || format!("jvm.open has {:?}", keys(all, "jvm.open")),
    )?;
    expect(keys(committed, "jvm.open") == ["before"], || {
        format!(
            "of jvm.open, {:?} counts as committed",
            keys(committed, "jvm.open")
        )
    })
}
