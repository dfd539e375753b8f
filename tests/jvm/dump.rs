//! Kafka's own dump tool on the files of a directory.

use crate::{Outcome, copy, expect, jvm::Jvm, text};
use std::{
    fs,
    path::{Path, PathBuf},
};

const TOOL: &str = "org.apache.kafka.tools.DumpLogSegments";
/// What the tool says only when something is wrong.
const COMPLAINTS: [&str; 8] = [
    "Mismatches in",
    "Found timestamp mismatch",
    "Found out of order timestamp",
    "isvalid: false",
    "invalid bytes at the end",
    "Exception",
    "corrupt",
    "Could not decode",
];

/// The files below a directory's partitions that end so, in partitions that satisfy `of`.
fn files(dir: &Path, suffix: &str, of: impl Fn(&str) -> bool) -> Outcome<Vec<PathBuf>> {
    let list = |dir: &Path| -> Outcome<Vec<PathBuf>> {
        let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        paths.sort();
        Ok(paths)
    };
    let mut found = Vec::new();
    for partition in list(dir)? {
        let name = partition
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        // Of a topic that Kafka was deleting when it stopped nothing matters any more.
        let counts = name != "__cluster_metadata-0" && !name.ends_with("-delete");
        if partition.is_dir() && counts && of(&name) {
            let files = list(&partition)?.into_iter();
            found.extend(files.filter(|path| text(path).ends_with(suffix)));
        }
    }
    Ok(found)
}

/// Runs the tool on all files at once; what it said.
fn dump(jvm: &Jvm, files: &[PathBuf], args: &[&str]) -> Outcome<String> {
    let list: Vec<&str> = files.iter().map(|path| text(path)).collect();
    let list = list.join(",");
    let args = [&["--files", &list], args].concat();
    let (out, err) = jvm.run(TOOL, &args)?;
    Ok(out + &err)
}

fn without_complaint(what: &str, said: &str) -> Outcome {
    let bad = said
        .lines()
        .find(|line| COMPLAINTS.iter().any(|word| line.contains(word)));
    expect(bad.is_none(), || {
        format!("the dump tool on {what}: {}", bad.unwrap_or_default())
    })
}

/// Offsets that don't follow each other, in logs that are not compacted.
///
/// Kafka 4.3's tool counts from -1, so that it complains about the first record of each segment but a partition's first, whoever
/// wrote it; that complaint is passed over.
fn consecutive(said: &str) -> Outcome {
    let compacted = [
        "keyed-",
        "jvm.compacted-",
        "__consumer_offsets-",
        "__transaction_state-",
    ];
    let mut of = None;
    for line in said.lines() {
        if let Some(path) = line.strip_prefix("Non-consecutive offsets in ") {
            of = Some(Path::new(path));
        } else if let (Some(path), Some((before, after))) =
            (of, line.split_once(" is followed by "))
        {
            let base = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse::<i64>().ok());
            let first = before.trim() == "-1" && after.trim().parse().ok() == base;
            let holes = compacted
                .iter()
                .any(|name| text(path).contains(&format!("/{name}")));
            expect(first || holes, || {
                format!("the dump tool: {}: {line}", path.display())
            })?;
        }
    }
    Ok(())
}

/// Every file of every partition.
pub fn every_file(jvm: &Jvm, dir: &Path) -> Outcome {
    let all = |_: &str| true;
    let logs = files(dir, ".log", all)?;
    let said = dump(jvm, &logs, &["--deep-iteration", "--print-data-log"])?;
    without_complaint("logs", &said)?;
    consecutive(&said)?;
    let batches = said.matches("isvalid: true").count();
    let records = said
        .lines()
        .filter(|line| line.starts_with("| offset:"))
        .count();
    expect(batches > 0 && records > 0, || {
        "the dump tool saw no batches".into()
    })?;

    let mut indexes = files(dir, ".index", all)?;
    let entries = dump(jvm, &indexes, &[])?;
    without_complaint("offset indexes", &entries)?;
    let entries = entries
        .lines()
        .filter(|line| line.starts_with("offset:"))
        .count();
    expect(entries > 0, || "no offset index has an entry".into())?;
    let time_indexes = files(dir, ".timeindex", all)?;
    without_complaint("time indexes", &dump(jvm, &time_indexes, &[])?)?;
    expect(
        indexes.len() == logs.len() && time_indexes.len() == logs.len(),
        || {
            format!(
                "{} logs, {} and {} indexes",
                logs.len(),
                indexes.len(),
                time_indexes.len()
            )
        },
    )?;
    indexes.extend(time_indexes);
    let said = dump(jvm, &indexes, &["--index-sanity-check"])?;
    without_complaint("index sanity", &said)?;
    for index in &indexes {
        // A segment of few bytes has no entries, of Kafka's making as of Ottla's.
        let length = fs::metadata(index)
            .map_err(|error| error.to_string())?
            .len();
        let empty = length == 0 && text(index).ends_with(".index");
        let verdict = if empty {
            "is empty."
        } else {
            "passed sanity check."
        };
        let verdict = format!("{} {verdict}", text(index));
        expect(said.contains(&verdict), || {
            format!("the dump tool does not say: {verdict}")
        })?;
    }
    without_complaint("indexes", &dump(jvm, &indexes, &["--verify-index-only"])?)?;

    let snapshots = files(dir, ".snapshot", all)?;
    let said = dump(jvm, &snapshots, &[])?;
    without_complaint("snapshots", &said)?;
    expect(said.contains("producerId:"), || {
        "no snapshot has a producer".into()
    })?;
    let transactions = files(dir, ".txnindex", all)?;
    if !transactions.is_empty() {
        without_complaint("transaction indexes", &dump(jvm, &transactions, &[])?)?;
    }

    let offsets = files(dir, ".log", |name| name.starts_with("__consumer_offsets-"))?;
    let said = dump(jvm, &offsets, &["--offsets-decoder"])?;
    without_complaint("__consumer_offsets", &said)?;
    expect(said.contains("\"group\":\"shop\""), || {
        "the group's records can't be decoded".into()
    })?;

    let checkpoint = dir.join("bootstrap.checkpoint");
    if checkpoint.exists() {
        let said = dump(jvm, &[checkpoint], &["--cluster-metadata-decoder"])?;
        without_complaint("bootstrap.checkpoint", &said)?;
        expect(said.contains("TOPIC_RECORD"), || {
            "bootstrap.checkpoint has no topics".into()
        })?;
    }
    println!(
        "  {} segments, {batches} batches, {records} records, {entries} index entries, {} snapshots",
        logs.len(),
        snapshots.len()
    );
    Ok(())
}

/// The control: a flipped bit in an index, and one in a log, are complained about.
pub fn finds_damage(jvm: &Jvm, dir: &Path, to: &Path) -> Outcome {
    for (suffix, args, at) in [
        (".index", &[][..], 7),
        (".timeindex", &[], 7),
        (".log", &["--deep-iteration"], 70),
    ] {
        let _ = fs::remove_dir_all(to);
        copy(dir, to)?;
        let candidates = files(to, suffix, |name| name.starts_with("codec.none-"))?;
        let file = candidates.first().ok_or("nothing to damage")?;
        let mut bytes = fs::read(file).map_err(|error| error.to_string())?;
        *bytes.get_mut(at).ok_or("too short to damage")? ^= 1;
        fs::write(file, bytes).map_err(|error| error.to_string())?;
        let said = dump(jvm, std::slice::from_ref(file), args).unwrap_or_else(|error| error);
        let found = without_complaint("the damaged file", &said).is_err();
        expect(found, || {
            format!("a flipped bit in {} is not found:\n{said}", file.display())
        })?;
    }
    Ok(())
}

/// After a kill there are no indexes of the segments that were written, and logs may end in the middle of a batch; what is whole
/// is sound.
pub fn logs_of_a_killed_writer(jvm: &Jvm, dir: &Path) -> Outcome {
    let logs = files(dir, ".log", |name| name.starts_with("killed-"))?;
    let said = dump(jvm, &logs, &["--deep-iteration"])?;
    let bad = said.contains("isvalid: false") || said.contains("Exception");
    expect(!bad && said.contains("isvalid: true"), || {
        "the dump tool on a killed writer's log".into()
    })
}
