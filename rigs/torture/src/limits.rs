//! What the machine refuses: space, descriptors, permission, syncs. Each case is a clear error, nothing that was acknowledged is lost,
//! and the directory serves again when the cause is gone.

use crate::{
    children::{Telling, Told, check, this_program},
    history::{Event, History},
    mark::Mark,
    options::Options,
    report::{Progress, Ran, Report},
};
use ottla::{Config, ErrCode, NewRecord, Producer};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

/// For a send that can't succeed, and how long its record is tried.
const WAIT: Duration = Duration::from_secs(5);
const TRIED_MS: &str = "3000";
/// The same for one that must succeed, on a machine with other things to do.
const LONG_WAIT: Duration = Duration::from_secs(70);
const LONG_TRIED_MS: &str = "60000";
const TOPIC: &str = "limits";

/// A case: its name, and what is wrong, or `None` if it can't be tried here.
type Case = (&'static str, fn(&Path) -> Result<Tried, String>);

/// What came of a case.
enum Tried {
    Wrong(Vec<String>),
    Skipped(&'static str),
}

const CASES: &[Case] = &[
    ("file size limit", file_size_limit),
    ("full disk", full_disk),
    ("too few descriptors", too_few_descriptors),
    ("read-only directory", read_only_directory),
    ("failed sync", failed_sync),
    ("zero-length files", zero_length_files),
    ("second owner", second_owner),
    ("newer version", newer_version),
    ("hostile topic names", hostile_topic_names),
];

/// The process that meets the limit: sends until `rounds` records are acknowledged or one is refused, tells why, and goes on with
/// the next one after that.
pub fn sender(options: &Options) -> Result<(), String> {
    let refused = |error: ottla::KafkaError| format!("{:?}: {error}", error.code);
    let (wait, tried_ms) = match options.patient {
        true => (LONG_WAIT, LONG_TRIED_MS),
        false => (WAIT, TRIED_MS),
    };
    let producer = config(&options.address, tried_ms)
        .and_then(Producer::new)
        .map_err(refused)?;
    let value_of = |count| Mark {
        writer: 4 * options.run + 3,
        count,
    };
    let mut failed = None;
    for count in 0..options.rounds.unwrap_or(100) as u32 {
        let mark = value_of(count);
        Event::Sent(mark).tell();
        let value = mark.value();
        let record = NewRecord::to(TOPIC).partition(0).value(&value);
        match producer.send_and_wait(record, wait) {
            Ok(sent) => {
                Event::Acknowledged(mark, (TOPIC.into(), 0), sent.offset).tell();
            }
            Err(error) => {
                failed = Some(refused(error));
                break;
            }
        }
    }
    match failed {
        None => Ok(()),
        Some(why) => Err(why),
    }
}

fn config(address: &str, tried_ms: &str) -> Result<Config, ottla::KafkaError> {
    Ok(Config::new()
        .with("bootstrap.servers", address)?
        .with("message.timeout.ms", tried_ms)?
        .with("linger.ms", "0")?)
}

fn address(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

/// Sends so many records as run `run`, below a shell that has set limits or under another program.
fn send(dir: &Path, run: u32, records: u32, before: &[&str]) -> Result<Told, String> {
    Telling::start(&mut sending(dir, run, records, before))?.end()
}

/// The command for that.
fn sending(dir: &Path, run: u32, records: u32, before: &[&str]) -> Command {
    let this = this_program();
    let mut command = match before {
        [] => this_program(),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(this.get_program());
            command
        }
    };
    command.args(["sender", "--address", &address(dir)]);
    command.args(["--run", &run.to_string(), "--rounds", &records.to_string()]);
    command
}

/// That it was refused in these words.
fn refused(told: &Told, words: &[&str]) -> Vec<String> {
    let mut wrong: Vec<String> = told.crash().into_iter().collect();
    if told.status.success() {
        wrong.push("nothing was refused".into());
    } else if !words.iter().any(|word| told.errors.contains(word)) {
        wrong.push(format!("refused in other words: {}", told.errors.trim()));
    }
    wrong
}

/// That the directory serves again, with all that was acknowledged.
fn serves_again(dir: &Path, before: &[&Told]) -> Result<Vec<String>, String> {
    let mut history = History::default();
    let mut wrong = Vec::new();
    for told in before {
        wrong.extend(history.add(&told.events));
    }
    let mut sender = sending(dir, 9, 20, &[]);
    let told = Telling::start(sender.arg("--patient"))?.end()?;
    if !told.status.success() {
        wrong.push(format!("afterwards: {}", told.errors.trim()));
    }
    wrong.extend(check(&mut history, &told, dir)?);
    Ok(wrong)
}

/// `RLIMIT_FSIZE`: a write is cut short, and the next one fails. The signal that comes with it is ignored, as the host must.
fn file_size_limit(dir: &Path) -> Result<Tried, String> {
    let limit = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let told = send(dir, 0, 5000, &["sh", "-c", limit])?;
    let mut wrong = refused(
        &told,
        &["File too large", "KAFKA_STORAGE_ERROR", "TIMED_OUT"],
    );
    wrong.extend(serves_again(dir, &[&told])?);
    Ok(Tried::Wrong(wrong))
}

/// A small tmpfs that fills up, and has room again when another file goes.
fn full_disk(dir: &Path) -> Result<Tried, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Tried::Skipped("needs root"));
    }
    let run = |program: &str, arguments: &[&str]| -> Result<(), String> {
        let Output { status, stderr, .. } = Command::new(program)
            .args(arguments)
            .arg(dir)
            .output()
            .map_err(|error| format!("{program}: {error}"))?;
        match status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&stderr).into_owned()),
        }
    };
    run("mount", &["-t", "tmpfs", "-o", "size=4m", "torture"])?;
    let result = (|| {
        let failed = |error: std::io::Error| error.to_string();
        fs::write(dir.join("ballast"), vec![0; 3 << 20]).map_err(failed)?;
        let data = dir.join("data");
        let told = send(&data, 0, 20_000, &[])?;
        let mut wrong = refused(
            &told,
            &["No space left", "KAFKA_STORAGE_ERROR", "TIMED_OUT"],
        );
        fs::remove_file(dir.join("ballast")).map_err(failed)?;
        wrong.extend(serves_again(&data, &[&told])?);
        Ok(Tried::Wrong(wrong))
    })();
    run("umount", &[])?;
    result
}

/// Descriptors run out, at any number of them.
fn too_few_descriptors(dir: &Path) -> Result<Tried, String> {
    let mut all = Vec::new();
    let mut wrong = Vec::new();
    for (run, limit) in (4..24).step_by(2).enumerate() {
        let shell = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let told = send(dir, run as u32 + 10, 5, &["sh", "-c", &shell])?;
        if !told.status.success() {
            let found = refused(
                &told,
                &["Too many open files", "KAFKA_STORAGE_ERROR", "TIMED_OUT"],
            );
            wrong.extend(
                found
                    .into_iter()
                    .map(|what| format!("with {limit}: {what}")),
            );
        }
        all.push(told);
    }
    if all.iter().all(|told| told.status.success()) {
        wrong.push("no limit was too low".into());
    }
    wrong.extend(serves_again(dir, &all.iter().collect::<Vec<_>>())?);
    Ok(Tried::Wrong(wrong))
}

/// No permission to write; root has all, so that it is a read-only mount there.
fn read_only_directory(dir: &Path) -> Result<Tried, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Tried::Skipped("needs root"));
    }
    let first = send(dir, 0, 20, &[])?;
    let shell = format!(
        "mount --bind '{0}' '{0}' && mount -o remount,ro,bind '{0}' && exec \"$0\" \"$@\"",
        dir.display()
    );
    let before = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &shell,
    ];
    let told = send(dir, 1, 20, &before)?;
    let mut wrong = refused(&told, &["Read-only file system"]);
    wrong.extend(serves_again(dir, &[&first, &told])?);
    Ok(Tried::Wrong(wrong))
}

/// A sync fails with EIO, once: the log must not trust a second one.
fn failed_sync(dir: &Path) -> Result<Tried, String> {
    if Command::new("strace").arg("-V").output().is_err() {
        return Ok(Tried::Skipped("needs strace"));
    }
    let mut wrong = Vec::new();
    let mut all = Vec::new();
    for (run, when) in [30, 33, 37, 52].into_iter().enumerate() {
        let inject = format!("inject=fdatasync:error=EIO:when={when}");
        let quiet = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"];
        let before = [&quiet[..], &["trace=fdatasync", "-e", &inject]].concat();
        let told = send(dir, run as u32 + 10, 200, &before)?;
        let found = refused(
            &told,
            &["KAFKA_STORAGE_ERROR", "Input/output error", "TIMED_OUT"],
        );
        wrong.extend(found.into_iter().map(|what| format!("sync {when}: {what}")));
        all.push(told);
    }
    wrong.extend(serves_again(dir, &all.iter().collect::<Vec<_>>())?);
    Ok(Tried::Wrong(wrong))
}

/// Files of length zero, as a crash of a file system without ordered data leaves them: whatever can be made again is.
fn zero_length_files(dir: &Path) -> Result<Tried, String> {
    let told = send(dir, 0, 50, &[])?;
    let part = dir.join(format!("{TOPIC}-0"));
    // A segment that was created and not written.
    let empty = part.join("00000000000000000050.log");
    let failed = |error: std::io::Error| error.to_string();
    fs::write(&empty, b"").map_err(failed)?;
    for entry in fs::read_dir(&part).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if !is_log {
            fs::write(&path, b"").map_err(failed)?;
        }
    }
    Ok(Tried::Wrong(serves_again(dir, &[&told])?))
}

fn second_owner(dir: &Path) -> Result<Tried, String> {
    let open = ottla::Broker::open(&address(dir)).map_err(|error| error.to_string())?;
    let told = send(dir, 0, 1, &[])?;
    let me = format!("process {} (", std::process::id());
    let mut wrong = refused(&told, &[&me]);
    drop(open);
    wrong.extend(serves_again(dir, &[&told])?);
    Ok(Tried::Wrong(wrong))
}

fn newer_version(dir: &Path) -> Result<Tried, String> {
    let told = send(dir, 0, 5, &[])?;
    let path = dir.join("meta.properties");
    let failed = |error: std::io::Error| error.to_string();
    let text = fs::read_to_string(&path).map_err(failed)?;
    fs::write(&path, text.replace("version=1", "version=2")).map_err(failed)?;
    let newer = send(dir, 1, 5, &[])?;
    let mut wrong = refused(&newer, &["newer"]);
    if !newer.errors.contains("meta.properties") {
        wrong.push(format!("the file is not named: {}", newer.errors.trim()));
    }
    fs::write(&path, text).map_err(failed)?;
    wrong.extend(serves_again(dir, &[&told, &newer])?);
    Ok(Tried::Wrong(wrong))
}

fn hostile_topic_names(dir: &Path) -> Result<Tried, String> {
    let data = dir.join("data");
    let producer = config(&address(&data), TRIED_MS)
        .and_then(Producer::new)
        .map_err(|error| error.to_string())?;
    let long = "a".repeat(250);
    let names = [
        "",
        ".",
        "..",
        "../up",
        "/etc/x",
        "a/b",
        "a\\b",
        "a\0b",
        "sch\u{f6}n",
        "a b",
        "a\nb",
        &long,
    ];
    let mut wrong = Vec::new();
    for name in names {
        let record = NewRecord::to(name).value(b"v");
        match producer.send_and_wait(record, WAIT) {
            Ok(_) => wrong.push(format!("topic {name:?} was taken")),
            Err(error)
                if [
                    ErrCode::TOPIC_EXCEPTION,
                    ErrCode::INVALID_ARG,
                    ErrCode::UNKNOWN_TOPIC,
                    ErrCode::UNKNOWN_TOPIC_OR_PART,
                ]
                .contains(&error.code) => {}
            Err(error) => wrong.push(format!("topic {name:?}: {:?} {error}", error.code)),
        }
    }
    drop(producer);
    let strangers = fs::read_dir(dir).map_err(|error| error.to_string())?;
    if strangers.count() != 1 {
        wrong.push("something lies outside of the data directory".into());
    }
    wrong.extend(serves_again(&data, &[])?);
    Ok(Tried::Wrong(wrong))
}

/// All cases.
pub fn main(options: &Options) -> Result<Report, String> {
    let mut report = Report::default();
    let progress = Progress::new("limits", 0, None);
    let (mut done, mut bad, mut skipped) = (0, 0, Vec::new());
    for (name, case) in CASES.iter().filter(|(name, _)| options.wants(name)) {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        match case(dir.path()).map_err(|error| format!("{name}: {error}"))? {
            Tried::Skipped(why) => skipped.push(format!("{name} ({why})")),
            Tried::Wrong(wrong) => {
                done += 1;
                bad += u64::from(!wrong.is_empty());
                report.found(name, wrong);
            }
        }
    }
    let skipped = match skipped.is_empty() {
        true => String::new(),
        false => format!("skipped: {}; ", skipped.join(", ")),
    };
    report.ran.push(Ran {
        rig: "limits".into(),
        count: done,
        unit: "cases",
        found: bad,
        note: format!("{skipped}{:.0} s", progress.seconds()),
    });
    Ok(report)
}
