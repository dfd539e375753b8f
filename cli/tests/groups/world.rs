//! A broker in a process of its own that may be killed, and what it costs.

use crate::served::Served;
use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

/// A broker on a directory.
pub struct World {
    pub dir: tempfile::TempDir,
    settings: Vec<String>,
    served: Option<Served>,
    /// CPU time of the processes that are gone.
    spent: Duration,
    /// The most memory of any of them, in bytes.
    most: u64,
    /// The directories that a kill takes with it begin with this: a broker that is wrong on purpose.
    pub loses: Option<&'static str>,
}

impl World {
    /// Starts one; the settings are those of `server.properties`.
    pub fn new(settings: &[&str]) -> Self {
        let mut world = Self {
            dir: tempfile::tempdir().unwrap(),
            settings: settings.iter().map(|s| s.to_string()).collect(),
            served: None,
            spent: Duration::ZERO,
            most: 0,
            loses: None,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let mut args = Vec::new();
        for setting in &self.settings {
            args.extend(["--set", setting]);
        }
        let dir = self.dir.path().to_str().unwrap();
        self.served = Some(Served::start(dir, &args));
    }

    /// Ends the process as `kill -9` does, and starts another on the directory.
    pub fn kill(&mut self) {
        self.count();
        self.served.take().unwrap().kill();
        if let Some(lost) = self.loses {
            for entry in fs::read_dir(self.dir.path()).unwrap() {
                let entry = entry.unwrap();
                if entry.file_name().to_string_lossy().starts_with(lost) {
                    fs::remove_dir_all(entry.path()).unwrap();
                }
            }
        }
        self.start();
    }

    /// Where it is; another port after each start.
    pub fn address(&self) -> SocketAddr {
        self.served.as_ref().unwrap().address()
    }

    pub fn pid(&self) -> u32 {
        self.served.as_ref().unwrap().pid()
    }

    fn proc(&self, file: &str) -> String {
        let path = PathBuf::from(format!("/proc/{}/{file}", self.pid()));
        fs::read_to_string(path).unwrap()
    }

    fn status(&self, field: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line
            .unwrap()
            .trim_matches([':', ' ', '\t'])
            .trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }

    /// What it has resident now, in bytes.
    pub fn resident(&self) -> u64 {
        self.status("VmRSS")
    }

    fn cpu_of_this_process(&self) -> Duration {
        let stat = self.proc("stat");
        let (_, behind_name) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = behind_name.split_whitespace().collect();
        // utime and stime, in hundredths of a second, which is what Linux shows everywhere.
        let ticks: u64 = [11, 12]
            .map(|i| fields[i].parse::<u64>().unwrap())
            .iter()
            .sum();
        Duration::from_millis(10 * ticks)
    }

    fn count(&mut self) {
        self.spent += self.cpu_of_this_process();
        self.most = self.most.max(self.status("VmHWM"));
    }

    /// CPU time so far, of all its processes.
    pub fn cpu(&self) -> Duration {
        self.spent + self.cpu_of_this_process()
    }

    /// The most memory so far.
    pub fn most_resident(&self) -> u64 {
        self.most.max(self.status("VmHWM"))
    }
}
