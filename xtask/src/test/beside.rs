//! A suite that runs beside others, in a process group of its own: whatever it starts ends with it.
//!
//! The group is not the terminal's, so a Ctrl-C doesn't reach it: the first one that begins has the signals watched that end this
//! program, and they end all groups before.

use crate::shell::{Outcome, command, target_dir};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};
use std::{
    fs,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
    time::Instant,
};

/// The groups that are there.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A suite that runs; what it says goes to a file.
pub struct Beside {
    pub suite: &'static str,
    pub start: Instant,
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Beside {
    /// Begins a suite of `cargo xtask test`.
    pub fn begin(suite: &'static str) -> Outcome<Self> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = command(program);
        command.args(["test", suite]);
        Self::run(suite, &mut command)
    }

    fn run(suite: &'static str, command: &mut Command) -> Outcome<Self> {
        static WATCH: Once = Once::new();
        WATCH.call_once(watch_signals);
        let dir = target_dir().join("test");
        let log = dir.join(format!("{suite}.log"));
        let failed = |error: std::io::Error| format!("{}: {error}", log.display());
        fs::create_dir_all(&dir).map_err(failed)?;
        let file = fs::File::create(&log).map_err(failed)?;
        // Locked until it is noted: a signal in between would leave it behind.
        let mut groups = groups();
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            .spawn()
            .map_err(failed)?;
        let group = Pid::from_child(&child);
        groups.push(group);
        drop(groups);
        Ok(Self {
            suite,
            start: Instant::now(),
            child,
            group,
            log,
        })
    }

    /// Waits for it, and says what it has said.
    pub fn finish(mut self) -> Outcome {
        // Its id is the group's, and stays so until the last line of `end`.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.group), ended).map_err(|error| error.to_string())?;
        let status = self.end().map_err(|error| error.to_string())?;
        let said = fs::read(&self.log).map_err(|e| format!("{}: {e}", self.log.display()))?;
        eprint!("{}", String::from_utf8_lossy(&said));
        if status.success() {
            Ok(())
        } else {
            Err(format!("`cargo xtask test {}`: {status}", self.suite))
        }
    }

    /// Ends all of the group that is still there.
    fn end(&mut self) -> std::io::Result<std::process::ExitStatus> {
        let mut groups = groups();
        if let Some(at) = groups.iter().position(|group| *group == self.group) {
            groups.swap_remove(at);
            let _ = kill_process_group(self.group, Signal::KILL);
        }
        self.child.wait()
    }
}

impl Drop for Beside {
    /// Nothing that was started is left behind when the run ends early.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Has the signals that end this program end the groups first.
fn watch_signals() {
    let wanted = [SIGHUP, SIGINT, SIGTERM].map(|signal| (!is_ignored(signal)).then_some(signal));
    let Ok(mut signals) = Signals::new(wanted.into_iter().flatten()) else {
        return;
    };
    thread::spawn(move || {
        for signal in signals.forever() {
            // Locked to the end: none begins any more.
            let groups = groups();
            for group in groups.iter() {
                let _ = kill_process_group(*group, Signal::KILL);
            }
            let _ = emulate_default_handler(signal);
        }
    });
}

/// Whether whoever started this program wants it to go on after this signal, as `nohup` does.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        time::Duration,
    };

    /// A shell that starts a program and waits for it; the program's id.
    fn begin(suite: &'static str) -> (Beside, u32) {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 1000 & echo $!; wait"]);
        let beside = Beside::run(suite, &mut shell).unwrap();
        let mut said = String::new();
        until("it has said", || {
            said = fs::read_to_string(&beside.log).unwrap();
            said.ends_with('\n')
        });
        (beside, said.trim().parse().unwrap())
    }

    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < end, "not in time: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gone, or waiting for somebody who asks how it ended.
    fn is_gone(pid: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
        matches!(state, None | Some("Z"))
    }

    #[test]
    fn what_it_started_ends_with_it() {
        let (beside, sleeps) = begin("unit-dropped");
        assert!(!is_gone(sleeps));
        drop(beside);
        until("it is gone", || is_gone(sleeps));
    }

    #[test]
    fn what_it_left_behind_ends_when_it_is_finished() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 1000 & echo $! >&2"]);
        let beside = Beside::run("unit-finished", &mut shell).unwrap();
        let log = beside.log.clone();
        beside.finish().unwrap();
        let sleeps = fs::read_to_string(log).unwrap().trim().parse().unwrap();
        until("it is gone", || is_gone(sleeps));
        let failing = Beside::run("unit-failing", &mut Command::new("false")).unwrap();
        assert!(failing.finish().is_err());
    }

    #[test]
    fn a_signal_ends_the_groups_and_then_this_program() {
        use std::os::unix::process::ExitStatusExt;

        let mut program = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "test::beside::tests::waits_for_a_signal"])
            .args(["--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(program.stdout.take().unwrap()).lines();
        let sleeps: u32 = said
            .map(Result::unwrap)
            .find_map(|line| line.split_once("sleeps: ")?.1.trim().parse().ok())
            .unwrap();
        assert!(!is_gone(sleeps));
        let pid = Pid::from_child(&program);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(program.wait().unwrap().signal(), Some(SIGTERM));
        until("it is gone", || is_gone(sleeps));
    }

    #[test]
    #[ignore = "what the test before starts"]
    fn waits_for_a_signal() {
        let (_beside, sleeps) = begin("unit-signal");
        println!("sleeps: {sleeps}");
        thread::sleep(Duration::from_secs(60));
    }
}
