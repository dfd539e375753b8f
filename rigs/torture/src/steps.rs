//! Death at every single operation of a scripted scenario: `steps` through a storage that kills the process at the Nth of its
//! operations, before it and halfway through; `syscalls` through strace, which kills at the Nth system call of a kind.

use crate::{
    children::{Told, check, this_program},
    direct::Direct,
    dying::{DyingStorage, Fate},
    history::{Event, History},
    mark::{Mark, WRITERS},
    options::Options,
    report::{Progress, Ran, Report},
    writer::GROUP,
};
use ottla_broker::BrokerConfig;
use ottla_driver::{DirectoryLock, FileStorage};
use ottla_record::Now;
use std::{path::Path, process::Command, sync::Arc};

/// At each of so many operations the control dies, too.
const CONTROL_STRIDE: usize = 40;

/// The process that dies: the scenario.
pub fn scenario(options: &Options) -> Result<(), String> {
    let fate = Fate::new(options.die_at, options.torn);
    let dir = Path::new(&options.address);
    // It is held until the end, as the driver does.
    let _lock = DirectoryLock::take(dir).map_err(|error| error.to_string())?;
    let open = |now: Now| {
        let storage = DyingStorage {
            inner: FileStorage::new(dir),
            fate: fate.clone(),
        };
        Direct::open(BrokerConfig::default(), Arc::new(storage), now)
            .map_err(|error| error.to_string())
    };
    let mut play = Play {
        broker: open(Now::new(1_000_000, 1_800_000_000_000))?,
        lie: options.lie,
        counts: [0; WRITERS as usize],
        sequence: 0,
    };
    let small = [("segment.bytes", "3000"), ("index.interval.bytes", "300")];
    play.create("a", 2, &small)?;
    play.broker.find_coordinator(GROUP)?;
    let producer = play.broker.producer_id()?;
    for step in 0..14 {
        play.produce("a", 0, 0, Some(producer))?;
        play.produce("a", 1, 2, None)?;
        if step % 3 == 0 {
            play.commit("a", 0, 3 * step)?;
        }
    }
    play.create("b", 1, &[])?;
    play.produce("b", 0, 3, None)?;
    play.delete("b")?;
    play.trim("a", 1, 20)?;
    // Checkpoints, the removal of deleted files, retention.
    play.broker.pass_ms(61_000);
    play.produce("a", 0, 0, Some(producer))?;
    play.broker.pass_ms(400_000);
    play.close()?;
    play.broker = open(play.broker.now)?;
    for _ in 0..4 {
        play.produce("a", 0, 0, Some(producer))?;
        play.produce("a", 1, 2, None)?;
    }
    play.commit("a", 0, 45)?;
    play.close()?;
    play.broker = open(play.broker.now)?;
    play.produce("a", 1, 2, None)?;
    play.create("c", 1, &small)?;
    play.produce("c", 0, 3, None)?;
    // The last stop is an unclean one.
    Event::Count(fate.done()).tell();
    Event::Done.tell();
    Ok(())
}

/// A broker, and the telling of what is done with it.
struct Play {
    broker: Direct,
    lie: bool,
    counts: [u32; WRITERS as usize],
    sequence: i32,
}

impl Play {
    /// Three records by a writer of that number.
    fn produce(
        &mut self,
        topic: &str,
        part: i32,
        writer: u32,
        producer: Option<(i64, i16)>,
    ) -> Result<(), String> {
        let count = &mut self.counts[writer as usize];
        let marks: Vec<Mark> = (*count..*count + 3)
            .map(|count| Mark { writer, count })
            .collect();
        *count += 3;
        let at = (topic.to_owned(), part);
        for mark in &marks {
            Event::Sent(*mark).tell();
            if self.lie {
                Event::Acknowledged(*mark, at.clone(), -1).tell();
            }
        }
        let values: Vec<_> = marks.iter().map(|mark| mark.value()).collect();
        let sequence = producer.map(|(id, epoch)| (id, epoch, self.sequence));
        if producer.is_some() {
            self.sequence += 3;
        }
        let base = self.broker.produce(topic, part, &values, sequence)?;
        for (mark, offset) in marks.into_iter().zip(base..) {
            Event::Acknowledged(mark, at.clone(), offset).tell();
        }
        Ok(())
    }

    fn create(
        &mut self,
        topic: &str,
        partitions: i32,
        config: &[(&str, &str)],
    ) -> Result<(), String> {
        self.broker.create_topic(topic, partitions, config)?;
        Event::Created(topic.into()).tell();
        Ok(())
    }

    fn delete(&mut self, topic: &str) -> Result<(), String> {
        Event::Deleting(topic.into()).tell();
        self.broker.delete_topic(topic)?;
        Event::Deleted(topic.into()).tell();
        Ok(())
    }

    fn trim(&mut self, topic: &str, part: i32, offset: i64) -> Result<(), String> {
        Event::Trimming((topic.into(), part), offset).tell();
        self.broker.delete_records(topic, part, offset)
    }

    fn commit(&mut self, topic: &str, part: i32, offset: i64) -> Result<(), String> {
        let at = (topic.to_owned(), part);
        Event::Committing(at.clone(), offset).tell();
        self.broker.commit(GROUP, topic, part, offset)?;
        Event::Committed(at, offset).tell();
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        self.broker.close().map_err(|error| error.to_string())
    }
}

fn play(command: &mut Command) -> Result<Told, String> {
    crate::children::Telling::start(command)?.end()
}

fn arguments(dir: &Path, die_at: u64, torn: bool, lie: bool) -> Vec<String> {
    let mut arguments: Vec<String> = ["scenario", "--address"].map(Into::into).into();
    arguments.push(dir.display().to_string());
    arguments.extend(["--die-at".into(), die_at.to_string()]);
    arguments.extend(torn.then(|| "--torn".into()));
    arguments.extend(lie.then(|| "--lie".into()));
    arguments
}

/// Plays the scenario with a death at one operation and reads what is left; whether it died, and what is wrong.
fn death(die_at: u64, torn: bool, lie: bool) -> Result<(bool, Vec<String>), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let told = play(this_program().args(arguments(dir.path(), die_at, torn, lie)))?;
    let died = told.events.last() != Some(&Event::Done);
    let mut history = History::default();
    let mut wrong = check(&mut history, &told, dir.path())?;
    if died && told.status.code().is_some() {
        wrong.push(format!("the scenario failed: {}", told.errors.trim()));
    }
    Ok((died, wrong))
}

/// How many operations the scenario has.
fn operations() -> Result<u64, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let told = play(this_program().args(arguments(dir.path(), u64::MAX, false, false)))?;
    told.events
        .iter()
        .find_map(|event| match event {
            Event::Count(count) => Some(*count),
            _ => None,
        })
        .ok_or_else(|| {
            format!(
                "the scenario doesn't come to its end: {}",
                told.errors.trim()
            )
        })
}

/// Every operation, before it and halfway through.
pub fn main(options: &Options) -> Result<Report, String> {
    let operations = operations()?;
    let mut report = Report::default();
    let mut caught = 0;
    for die_at in (0..operations).step_by(CONTROL_STRIDE) {
        caught += u64::from(!death(die_at, false, true)?.1.is_empty());
    }
    if caught == 0 {
        return Err("the control, which acknowledges before it writes, was not caught".into());
    }
    let (mut done, mut bad) = (0, 0);
    let mut progress = Progress::new("steps", 2 * operations / options.stride, options.minutes);
    // Another beginning for another seed, so that slices with a stride meet all in time.
    for point in (options.seed % options.stride..2 * operations).step_by(options.stride as usize) {
        if !progress.goes_on(done, &report) && options.minutes.is_some() {
            break;
        }
        let (die_at, torn) = (point / 2, point % 2 == 1);
        let (died, mut wrong) = death(die_at, torn, false)?;
        if !died {
            wrong.push("it did not die".into());
        }
        done += 1;
        if !wrong.is_empty() {
            bad += 1;
            let how = if torn { "halfway through" } else { "before" };
            report.found(&format!("{how} operation {die_at} of {operations}"), wrong);
        }
    }
    report.ran.push(Ran {
        rig: "steps".into(),
        count: done,
        unit: "deaths",
        found: bad,
        note: format!(
            "{operations} operations, before and halfway through each; stride {}; control caught at {caught} of {} points; {:.0} s",
            options.stride,
            operations.div_ceil(CONTROL_STRIDE as u64),
            progress.seconds()
        ),
    });
    Ok(report)
}

/// The system calls that change or sync something; rename, unlink and mkdir in all their forms.
const SYSCALLS: [&str; 9] = [
    "write,writev",
    "pwrite64",
    "fdatasync",
    "fsync",
    "/^rename",
    "/^unlink|^rmdir",
    "/^mkdir",
    "ftruncate",
    "openat",
];

/// The same through strace: every system call of each kind.
pub fn syscalls(options: &Options) -> Result<Report, String> {
    let mut report = Report::default();
    if Command::new("strace").arg("-V").output().is_err() {
        report.skipped = Some("strace is not installed".into());
        return Ok(report);
    }
    let (mut done, mut bad, mut kinds) = (0, 0, Vec::new());
    let mut progress = Progress::new("syscalls", u64::MAX, options.minutes);
    for kind in SYSCALLS.into_iter().filter(|kind| options.wants(kind)) {
        let mut when = 1 + options.seed % options.stride;
        let before = done;
        while progress.goes_on(done, &report) {
            let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
            strace.arg(format!("trace={kind}"));
            strace.args(["-e", &format!("inject={kind}:signal=KILL:when={when}")]);
            strace.arg(std::env::current_exe().map_err(|error| error.to_string())?);
            let told = play(strace.args(arguments(dir.path(), u64::MAX, false, false)))?;
            if told.events.last() == Some(&Event::Done) {
                break;
            }
            let wrong = check(&mut History::default(), &told, dir.path())?;
            done += 1;
            if !wrong.is_empty() {
                bad += 1;
                report.found(&format!("{kind}, number {when}"), wrong);
            }
            when += options.stride;
        }
        kinds.push(format!("{} {kind}", done - before));
    }
    report.ran.push(Ran {
        rig: "syscalls".into(),
        count: done,
        unit: "deaths",
        found: bad,
        // The control is that of `steps`: the same scenario, the same checks.
        note: format!(
            "{}; stride {}; {:.0} s",
            kinds.join(", ").replace('|', " "),
            options.stride,
            progress.seconds()
        ),
    });
    Ok(report)
}
