//! File systems that lie on another machine, or that pass every call on to a program that may: what a data directory must not be on.
//!
//! Ottla trusts three things of a file system: that a lock keeps every other owner out, that what was synced is on a disk, and that a
//! mapped page doesn't change or go away. Network file systems keep some of these promises on some servers with some mount options
//! (NFS without `lockd` grants every lock to everybody, SMB may drop one when the connection breaks, 9p and sshfs know no
//! locks between machines), and there is no way to ask. So they are refused, unless the owner of the directory says that he knows
//! better (`ottla.broker.allow.network.file.system`).

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

/// `f_type` of statfs(2) and the name for people: of Linux's `magic.h` and the file systems' own sources.
const NETWORK: [(u32, &str); 13] = [
    (0x6969, "NFS"),
    (0x517b, "SMB (smbfs)"),
    (0xff53_4d42, "SMB (cifs)"),
    (0xfe53_4d42, "SMB (smb2)"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS (kafs)"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x0bd0_0bd0, "Lustre"),
    (0x2030_528d, "OrangeFS"),
    (0x0116_1970, "GFS2"),
];
/// Of all file systems that are programs: which one it is stands in the list of mounts.
const FUSE: u32 = 0x6573_5546;
/// Programs behind FUSE that keep their files on another machine, as the list of mounts calls them. Others (`fuseblk`,
/// `fuse.fuse-overlayfs`, `virtiofs` …) are of this one.
const NETWORK_PROGRAMS: [&str; 22] = [
    "sshfs",
    "rclone",
    "s3fs",
    "s3ql",
    "goofys",
    "mount-s3",
    "gcsfuse",
    "blobfuse",
    "blobfuse2",
    "davfs",
    "curlftpfs",
    "smbnetfs",
    "gvfsd-fuse",
    "glusterfs",
    "ceph-fuse",
    "ceph",
    "juicefs",
    "seaweedfs",
    "mfs",
    "lizardfs",
    "cvmfs",
    "nfs",
];

/// The network file system that a directory is on, if it is on one that is known as such. A directory that can't be looked at is the
/// next one's to complain about.
pub fn network_file_system(dir: &Path) -> Option<String> {
    let magic = magic_of(dir)?;
    if magic == FUSE {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let device = fs::metadata(dir).ok()?.dev();
        let kind = kind_of_mount(&mounts, (libc::major(device), libc::minor(device)))?;
        return network_program(kind).map(|program| format!("FUSE ({program})"));
    }
    NETWORK
        .iter()
        .find(|(of, _)| *of == magic)
        .map(|(_, name)| (*name).to_string())
}

/// What an error says of a directory that is on one.
pub fn refusal(kind: &str) -> io::Error {
    io::Error::other(format!(
        "is on a network file system, {kind}, where locks don't keep other machines out and neither syncs nor mapped files can be \
         trusted; use a local disk, or set ottla.broker.allow.network.file.system=true if no other machine opens the directory \
         and acknowledged records may be lost with the server"
    ))
}

#[cfg(target_os = "linux")]
fn magic_of(dir: &Path) -> Option<u32> {
    // The field's width and sign differ between machines; the numbers have 32 bits.
    Some(rustix::fs::statfs(dir).ok()?.f_type as u32)
}

#[cfg(not(target_os = "linux"))]
fn magic_of(_: &Path) -> Option<u32> {
    None
}

/// The type of the file system with this device, as `/proc/self/mountinfo` has it: behind a lone dash.
fn kind_of_mount(mounts: &str, device: (u32, u32)) -> Option<&str> {
    let device = format!("{}:{}", device.0, device.1);
    mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(device.as_str()))
        .find_map(|line| line.split_once(" - ")?.1.split(' ').next())
}

/// The program behind a mount's type, if its files are on another machine: `sshfs` of `fuse.sshfs`.
fn network_program(kind: &str) -> Option<&str> {
    let program = kind.strip_prefix("fuse.")?;
    NETWORK_PROGRAMS.contains(&program).then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_directory_is_not_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(network_file_system(dir.path()), None);
        assert_eq!(network_file_system(Path::new("/nonexistent/dir")), None);
        assert_eq!(network_file_system(Path::new("/proc")), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_numbers_are_those_of_the_system() {
        let number = |magic: libc::c_long| magic as u32;
        for (magic, name) in [
            (libc::NFS_SUPER_MAGIC as _, "NFS"),
            (libc::SMB_SUPER_MAGIC as _, "SMB (smbfs)"),
            (libc::CODA_SUPER_MAGIC as _, "Coda"),
            (libc::NCP_SUPER_MAGIC as _, "NCP"),
            (libc::AFS_SUPER_MAGIC as _, "AFS"),
        ] {
            let known = NETWORK.iter().find(|(of, _)| *of == number(magic));
            assert_eq!(known.map(|(_, name)| *name), Some(name));
        }
        assert_eq!(FUSE, number(libc::FUSE_SUPER_MAGIC as _));
        let local = [
            libc::EXT4_SUPER_MAGIC as libc::c_long,
            libc::XFS_SUPER_MAGIC as _,
            libc::BTRFS_SUPER_MAGIC as _,
            libc::TMPFS_MAGIC as _,
            libc::OVERLAYFS_SUPER_MAGIC as _,
        ];
        for magic in local {
            assert!(NETWORK.iter().all(|(of, _)| *of != number(magic)));
        }
    }

    #[test]
    fn programs_behind_fuse() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
            36 22 0:31 / /mnt/a rw,nosuid shared:7 - fuse.sshfs me@there:/ rw\n\
            37 22 0:32 / /mnt/b rw master:1 shared:8 - fuse.fuse-overlayfs x rw\n\
            38 22 0:33 / /mnt/c rw - fuseblk /dev/vdb rw\n";
        let program = |minor| kind_of_mount(mounts, (0, minor)).and_then(network_program);
        assert_eq!(program(31), Some("sshfs"));
        assert_eq!(program(32), None);
        assert_eq!(program(33), None);
        assert_eq!(program(34), None);
    }
}
