//! A data directory on a real network file system: sshfs onto this machine, where root, sshfs and sftp-server are there.

use ottla_broker::BrokerConfig;
use ottla_driver::{EmbeddedBroker, Place};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// A mount that goes with this value.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Mounts `from` at `at` through sshfs, which talks to sftp-server without ssh.
fn mount(from: &Path, at: &Path, script: &Path) -> Option<Mounted> {
    let server = ["/usr/lib/openssh/sftp-server", "/usr/lib/ssh/sftp-server"]
        .into_iter()
        .find(|path| Path::new(path).exists())?;
    fs::write(script, format!("#!/bin/sh\nexec {server}\n")).ok()?;
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).ok()?;
    let status = Command::new("sshfs")
        .arg("-o")
        .arg(format!("ssh_command={}", script.display()))
        .arg(format!("localhost:{}", from.display()))
        .arg(at)
        .status();
    status.ok()?.success().then(|| Mounted(at.to_path_buf()))
}

#[test]
fn a_directory_on_sshfs_is_refused_unless_it_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let (from, at) = (dir.path().join("from"), dir.path().join("at"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&at).unwrap();
    let Some(_mounted) = mount(&from, &at, &dir.path().join("sftp")) else {
        eprintln!("skipped: sshfs can't be mounted here");
        return;
    };
    let place = Place::Directory(at.join("data"));
    let error = EmbeddedBroker::open(&place, BrokerConfig::default())
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("is on a network file system, FUSE (sshfs)")
            && error.contains("ottla.broker.allow.network.file.system=true"),
        "{error}"
    );
    assert!(!from.join("data/meta.properties").exists());
    let allowed = BrokerConfig {
        allow_network_file_system: true,
        ..BrokerConfig::default()
    };
    let broker = EmbeddedBroker::open(&place, allowed).expect("allowed");
    assert!(broker.close().expect("a clean close"));
    assert!(from.join("data/meta.properties").exists());
}
