//! Processes of this very program, and what they tell.

use crate::history::Event;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long a child may take to acknowledge something, on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child that runs.
pub struct Telling {
    child: Child,
    lines: JoinHandle<Vec<(Instant, Event)>>,
    acknowledged: Receiver<()>,
    errors: tempfile::NamedTempFile,
}

/// A child that has ended.
pub struct Told {
    /// What it told, up to its end.
    pub events: Vec<Event>,
    /// When each of them was heard.
    heard: Vec<Instant>,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard error.
    pub errors: String,
}

/// The command for this program with other arguments.
pub fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("a program knows where it is"))
}

impl Telling {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{command:?}: {error}");
        let errors = tempfile::NamedTempFile::new().map_err(failed)?;
        let to: File = errors.reopen().map_err(failed)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(to)
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let stdout = child.stdout.take().expect("piped");
        let (first, acknowledged) = channel();
        let lines = std::thread::spawn(move || {
            let mut events = Vec::new();
            let mut first = Some(first);
            let mut stdout = BufReader::with_capacity(1 << 16, stdout);
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                // The last line may be cut short.
                if let Some(text) = line.strip_suffix(b"\n")
                    && let Ok(text) = std::str::from_utf8(text)
                    && let Some(event) = Event::parse(text)
                {
                    if matches!(event, Event::Acknowledged(..))
                        && let Some(first) = first.take()
                    {
                        let _ = first.send(());
                    }
                    events.push((Instant::now(), event));
                }
                line.clear();
            }
            events
        });
        Ok(Self {
            child,
            lines,
            acknowledged,
            errors,
        })
    }

    /// Waits until it has acknowledged something, or has ended.
    pub fn wait_for_acknowledgement(&self) {
        let _ = self.acknowledged.recv_timeout(PATIENCE);
    }

    /// `kill -9`, if it still runs.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<Told, String> {
        let status = self.child.wait().map_err(|error| error.to_string())?;
        let (heard, events) = self
            .lines
            .join()
            .map_err(|_| "its lines can't be read".to_string())?
            .into_iter()
            .unzip();
        let mut errors = String::new();
        let _ = self.errors.as_file_mut().read_to_string(&mut errors);
        Ok(Told {
            events,
            heard,
            status,
            errors,
        })
    }
}

impl Told {
    /// Forgets what was promised, though not what was tried, after a moment: a sync that is under way when a file system is shut
    /// down may return success all the same.
    pub fn forget_promises_since(&mut self, moment: Instant) {
        let mut heard = self.heard.iter();
        self.events.retain(|event| {
            heard.next().is_some_and(|heard| *heard < moment) || event.is_attempt()
        });
        self.heard.truncate(self.events.len());
    }

    /// What is wrong with how it ended, apart from being killed.
    pub fn crash(&self) -> Option<String> {
        let panicked = self.errors.contains("panicked");
        let signal = std::os::unix::process::ExitStatusExt::signal(&self.status);
        match signal {
            _ if panicked => Some(format!("panicked: {}", self.errors.trim())),
            Some(9) | None => None,
            Some(signal) => Some(format!("died of signal {signal}: {}", self.errors.trim())),
        }
    }
}

/// Opens a directory in another process and reads all of it.
pub fn read_all(dir: &Path) -> Result<Told, String> {
    let address = format!("file://{}", dir.display());
    Telling::start(this_program().args(["reader", "--address", &address]))?.end()
}

/// What was found in a directory, against what was done to it.
pub fn check(
    history: &mut crate::history::History,
    written: &Told,
    dir: &Path,
) -> Result<Vec<String>, String> {
    let mut wrong: Vec<String> = written.crash().into_iter().collect();
    wrong.extend(history.add(&written.events));
    let found = read_all(dir)?;
    wrong.extend(found.crash());
    if !found.status.success() {
        wrong.push(format!("the reader failed: {}", found.errors.trim()));
    }
    wrong.extend(history.check(&found.events));
    Ok(wrong)
}
