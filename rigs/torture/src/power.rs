//! Power cuts on real file systems: ext4 and xfs on loop devices, shut down by the ioctl that both have. Without a flush of the
//! journal (`GOING_FLAGS_NOLOGFLUSH`) everything that was not synced is gone when the file system is mounted again.
//!
//! A sync that is under way while the ioctl runs may return success and lose its bytes all the same: a program of twenty lines that
//! writes, calls `fdatasync` and tells sees that, on both. So what is told after the ioctl began doesn't count.

use crate::{
    children::{Telling, check},
    history::History,
    kill::start,
    options::Options,
    random::Random,
    report::{Progress, Ran, Report},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// What stands in front of the arguments of the run that has mounts of its own.
pub const APART: &str = "power-apart";
/// Size of the images; xfs wants 300 MB at least. They are sparse.
const IMAGE_BYTES: u64 = 400 << 20;
const FILE_SYSTEMS: [&str; 2] = ["ext4", "xfs"];
const CUTS_PER_DIRECTORY: u64 = 10;
/// Within how many cuts the control must be caught.
const CONTROL_CUTS: u64 = 10;

/// Starts over in a mount namespace of its own: when this process ends, however it ends, the system unmounts what is mounted there
/// and detaches the loop devices.
pub fn main(_: &Options) -> Result<Report, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Report {
            skipped: Some("power cuts need root".into()),
            ..Report::default()
        });
    }
    let mut apart = Command::new("unshare");
    apart.args(["--mount", "--propagation", "private", "--"]);
    apart.arg(std::env::current_exe().map_err(|error| error.to_string())?);
    apart.arg(APART);
    apart.args(std::env::args().skip(2));
    let status = apart
        .status()
        .map_err(|error| format!("unshare: {error}"))?;
    // It has said everything.
    std::process::exit(status.code().unwrap_or(1));
}

/// The run itself.
pub fn apart(options: &Options) -> Result<Report, String> {
    let rounds = options.rounds.unwrap_or(300);
    let mut report = Report::default();
    for kind in FILE_SYSTEMS.into_iter().filter(|kind| options.wants(kind)) {
        let disk = Disk::make(kind)?;
        let caught = control(&disk)?;
        let mut progress = Progress::new(format!("power, {kind}"), rounds, options.minutes);
        let mut random = Random::new(options.seed);
        let (mut done, mut acknowledged, mut bad) = (0, 0, 0);
        while progress.goes_on(done, &report) {
            let mut history = History::default();
            let dir = disk.fresh_directory()?;
            for run in 0..CUTS_PER_DIRECTORY {
                if !progress.goes_on(done, &report) {
                    break;
                }
                let after = Duration::from_micros(random.below(400_000));
                let seed = options.seed ^ done;
                let wrong = disk.cut(&mut history, &dir, "", run as u32, seed, |_| {
                    std::thread::sleep(after);
                })?;
                done += 1;
                if !wrong.is_empty() {
                    let round = format!("{kind}, cut {} (--seed {})", done - 1, options.seed);
                    report.found(&round, wrong);
                    bad += 1;
                    break;
                }
            }
            acknowledged += history.acknowledged();
        }
        report.ran.push(Ran {
            rig: format!("power {kind}"),
            count: done,
            unit: "cuts",
            found: bad,
            note: format!(
                "{acknowledged} records acknowledged; {caught}; seed {}, {:.0} s",
                options.seed,
                progress.seconds()
            ),
        });
    }
    Ok(report)
}

/// `durability=os` promises nothing for a power cut: the rig must see that.
fn control(disk: &Disk) -> Result<String, String> {
    for cut in 1..=CONTROL_CUTS {
        let dir = disk.fresh_directory()?;
        let mut history = History::default();
        let wrong = disk.cut(&mut history, &dir, "?durability=os", 0, cut, |writer| {
            // However long it takes to start.
            writer.wait_for_acknowledgement();
            std::thread::sleep(Duration::from_millis(300));
        })?;
        if let Some(lost) = wrong.iter().find(|what| what.contains("are lost")) {
            let lost = lost.split(' ').next().unwrap_or_default();
            return Ok(format!(
                "control (durability=os) lost {lost} of {} in cut {cut}",
                history.acknowledged()
            ));
        }
        // With nothing of the directory left, not even the topic, the reader says so in other words.
        if wrong.iter().any(|what| what.contains("is lost")) {
            return Ok(format!(
                "control (durability=os) lost its topic in cut {cut}"
            ));
        }
    }
    Err(format!(
        "the control, durability=os, lost nothing in {CONTROL_CUTS} cuts on {}",
        disk.kind
    ))
}

/// A file system in a file, mounted.
struct Disk {
    kind: &'static str,
    _dir: tempfile::TempDir,
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    fn make(kind: &'static str) -> Result<Self, String> {
        // Memory is faster, and the host's own disk has nothing to do with the matter.
        let shm = Path::new("/dev/shm");
        let dir = match shm.is_dir() {
            true => tempfile::tempdir_in(shm),
            false => tempfile::tempdir(),
        };
        let dir = dir.map_err(|error| error.to_string())?;
        let image = dir.path().join("image");
        let mount = dir.path().join("mount");
        let failed = |error: std::io::Error| error.to_string();
        File::create(&image)
            .and_then(|file| file.set_len(IMAGE_BYTES))
            .and_then(|()| std::fs::create_dir(&mount))
            .map_err(failed)?;
        let quiet = if kind == "xfs" {
            ["-q", "-f"]
        } else {
            ["-q", "-F"]
        };
        run(Command::new(format!("mkfs.{kind}")).args(quiet).arg(&image))?;
        let disk = Self {
            kind,
            _dir: dir,
            image,
            mount,
        };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        mount.args(["-t", self.kind, "-o", "loop"]);
        run(mount.arg(&self.image).arg(&self.mount))
    }

    fn unmount(&self) -> Result<(), String> {
        run(Command::new("umount").arg(&self.mount))
    }

    fn fresh_directory(&self) -> Result<PathBuf, String> {
        let dir = self.mount.join("data");
        let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
        if dir.exists() {
            std::fs::remove_dir_all(&dir).map_err(failed)?;
        }
        std::fs::create_dir(&dir).map_err(failed)?;
        // The directory itself is not what is tested.
        File::open(&self.mount)
            .and_then(|file| file.sync_all())
            .map_err(failed)?;
        Ok(dir)
    }

    /// A writer that has its time, the power goes, the file system comes back, and everything is read.
    fn cut(
        &self,
        history: &mut History,
        dir: &Path,
        settings: &str,
        run: u32,
        seed: u64,
        its_time: impl FnOnce(&Telling),
    ) -> Result<Vec<String>, String> {
        let address = format!("file://{}{settings}", dir.display());
        let mut writer = start(&address, run, seed, false)?;
        its_time(&writer);
        let moment = Instant::now();
        self.shut_down()?;
        writer.kill();
        let mut written = writer.end()?;
        written.forget_promises_since(moment);
        self.unmount()?;
        self.mount()?;
        check(history, &written, dir)
    }

    /// The power goes.
    #[allow(unsafe_code)]
    fn shut_down(&self) -> Result<(), String> {
        /// `EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`: `_IOR('X', 125, __u32)`.
        const SHUTDOWN: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
        /// Nothing is flushed, not even the journal.
        const NO_LOG_FLUSH: u32 = 2;
        let root = File::open(&self.mount).map_err(|error| error.to_string())?;
        // SAFETY: the request reads one u32 from the pointer that it is given, and writes nothing.
        unsafe {
            rustix::ioctl::ioctl(
                &root,
                rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH),
            )
        }
        .map_err(|error| format!("{} can't be shut down: {error}", self.kind))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_opcode_is_the_kernels() {
        assert_eq!(
            rustix::ioctl::opcode::read::<u32>(b'X', 125) as u64,
            0x8004_587d
        );
    }
}
