//! Several processes on one directory, and forked children.

#![allow(unsafe_code)] // fork and _exit

use ottla::{Config, ErrCode, Event, Handle, ProduceRecord, Role};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Long enough for anything that ends at all, on a machine with other things to do.
const WAIT: Duration = Duration::from_secs(60);

fn open(servers: &str) -> Result<Handle, ottla::KafkaError> {
    Handle::new(
        Role::Producer,
        Config::new().with("bootstrap.servers", servers).unwrap(),
    )
}

fn produce(handle: &Handle) -> Result<(), ottla::KafkaError> {
    let topic = handle.topic("t")?;
    handle.produce(&ProduceRecord::new(topic, b"v"))?;
    let mut error = ErrCode::NO_ERROR;
    handle.flush_serving(WAIT, &mut |event| {
        if let Event::Delivery(batch) = event {
            error = batch.code();
        }
    })?;
    assert_eq!(error, ErrCode::NO_ERROR);
    Ok(())
}

/// Runs one of the tests below that are no tests but another process, until it says that it is ready.
fn other_process(name: &str, servers: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("OTTLA_OTHER_PROCESS", servers)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines
        .map_while(Result::ok)
        .find(|line| line.contains("ready"))
        .expect("the other process is ready");
    child
}

fn until_standard_input_ends() {
    println!("ready");
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

#[test]
fn owner() {
    let Ok(servers) = std::env::var("OTTLA_OTHER_PROCESS") else {
        return;
    };
    let handle = open(&servers).unwrap();
    produce(&handle).unwrap();
    until_standard_input_ends();
}

#[test]
fn owner_with_a_forked_child() {
    let Ok(servers) = std::env::var("OTTLA_OTHER_PROCESS") else {
        return;
    };
    let handle = open(&servers).unwrap();
    produce(&handle).unwrap();
    let dir = servers.strip_prefix("file://").unwrap();
    let dir = std::ffi::CString::new(dir).unwrap();
    // SAFETY: the child only looks, sleeps and ends.
    if unsafe { libc::fork() } == 0 {
        // It outlives its parent as long as the test goes on, and no longer than two minutes.
        for _ in 0..2400 {
            // SAFETY: the path is a string that ends with a zero.
            if unsafe { libc::access(dir.as_ptr(), libc::F_OK) } != 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // SAFETY: it ends the child without running what belongs to the parent.
        unsafe { libc::_exit(0) };
    }
    until_standard_input_ends();
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let servers = format!("file://{}", dir.path().display());
    let mut other = other_process("owner", &servers);
    let error = open(&servers).unwrap_err();
    assert_eq!(error.code, ErrCode::CONFLICT);
    assert!(
        error.message.contains(&format!("process {} (", other.id())),
        "{error}"
    );
    assert!(
        error.message.contains("processes") && error.message.contains("since 20"),
        "{error}"
    );
    drop(other.stdin.take());
    other.wait().unwrap();
    produce(&open(&servers).unwrap()).unwrap();
}

#[test]
fn a_killed_owner_leaves_the_directory_even_if_its_child_lives_on() {
    for name in ["owner", "owner_with_a_forked_child"] {
        let dir = tempfile::tempdir().unwrap();
        let servers = format!("file://{}", dir.path().display());
        let mut other = other_process(name, &servers);
        assert_eq!(open(&servers).unwrap_err().code, ErrCode::CONFLICT);
        other.kill().unwrap();
        other.wait().unwrap();
        // The child may not have run yet, to let go of its copy of the lock.
        let until = Instant::now() + WAIT;
        let taken_over = loop {
            match open(&servers) {
                Err(error) if error.code == ErrCode::CONFLICT && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                result => break result.unwrap(),
            }
        };
        produce(&taken_over).unwrap();
    }
}

#[test]
fn a_forked_child_is_refused_at_once_and_can_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let servers = format!("file://{}", dir.path().display());
    let handle = open(&servers).unwrap();
    let queue = handle.main_queue();
    produce(&handle).unwrap();
    // SAFETY: the child does what a program may do that forks: it tries its handle, makes new ones and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let in_child = || -> Result<(), &'static str> {
            let start = Instant::now();
            let refused = |what, result: Result<(), ottla::KafkaError>| match result {
                Err(error) if error.code == ErrCode::STATE => Ok(()),
                _ => Err(what),
            };
            refused("produce", produce(&handle))?;
            refused("flush", handle.flush(WAIT))?;
            refused("metadata", handle.metadata(None, WAIT).map(drop))?;
            if queue.poll(WAIT).is_some() || start.elapsed() > WAIT / 2 {
                return Err("poll");
            }
            match open(&servers) {
                Err(error) if error.code == ErrCode::CONFLICT => {}
                _ => return Err("the directory is the parent's"),
            }
            drop((handle, queue));
            let own = open("memory:").map_err(|_| "a handle of its own")?;
            produce(&own).map_err(|_| "a record of its own")
        };
        let result = in_child();
        if let Err(what) = result {
            eprintln!("in the forked child: {what}");
        }
        // SAFETY: it ends the child without running what belongs to the parent.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    let mut status = 0;
    // SAFETY: `status` is there to be written to.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    produce(&handle).unwrap();
}
