//! A broker in a process of its own, for tests.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// `ottla serve`, killed when it is dropped.
pub struct Served {
    child: Child,
    pub addresses: Vec<SocketAddr>,
    log: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

pub fn ottla() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ottla"))
}

impl Served {
    /// Serves a place on a free port, with further arguments.
    pub fn start(place: &str, args: &[&str]) -> Self {
        Self::with(place, &[&["--listen", "127.0.0.1:0"], args].concat(), 1)
    }

    /// Serves a place (the empty one is what the settings say) with these arguments, on so many listeners.
    pub fn with(place: &str, args: &[&str], listeners: usize) -> Self {
        let mut child = ottla()
            .arg("serve")
            .args(Some(place).filter(|place| !place.is_empty()))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let of_thread = log.clone();
        let reader = thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).unwrap_or(0) > 0 {
                of_thread.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut served = Self {
            child,
            addresses: Vec::new(),
            log,
            reader: Some(reader),
        };
        for _ in 0..listeners {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            let address = line.trim().strip_prefix("ottla: listening on ");
            let address = address.unwrap_or_else(|| panic!("{line:?} {}", served.log()));
            served.addresses.push(address.parse().unwrap());
        }
        served
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log has some text.
    pub fn wait_for_log(&self, text: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "no {text:?} in {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal; the exit code, how long it took, and the log.
    pub fn stop(mut self, signal: &str) -> (i32, Duration, String) {
        let start = Instant::now();
        let pid = self.pid().to_string();
        let kill = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(kill.success());
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        (status.code().unwrap_or(-1), start.elapsed(), self.log())
    }

    /// Ends it as `kill -9` does, at once.
    #[allow(dead_code)] // not every test does
    pub fn kill(mut self) {
        use std::os::unix::process::ExitStatusExt;
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(
            status.signal(),
            Some(9),
            "it had ended before: {}",
            self.log()
        );
    }

    /// Runs kcat on it, which must succeed, with some input; what it wrote.
    pub fn kcat(&self, args: &[&str], input: &str) -> String {
        let mut kcat = Command::new("kcat")
            .args(["-b", &self.address().to_string()])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = kcat.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
        let mut stderr = kcat.stderr.take().unwrap();
        let errors = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        let mut text = String::new();
        let mut stdout = kcat.stdout.take().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        let _ = writer.join().unwrap();
        let errors = errors.join().unwrap().unwrap();
        let status = kcat.wait().unwrap();
        assert!(status.success(), "kcat {args:?}: {errors}\n{}", self.log());
        text
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether Debian's kcat is there; where it isn't the tests that need it say so and are left out, but not in CI.
pub fn has_kcat() -> bool {
    let there = Command::new("kcat")
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    there || left_out("kcat is not installed")
}

/// Says why a test is left out; in CI that is a failure.
pub fn left_out(why: &str) -> bool {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("{why}: left out");
    false
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
