//! What every [`Storage`] must do: called from the tests of each.

use crate::storage::{
    OpenHow, Storage, StorageErrorKind, join, read_file, write_file, write_file_unsynced,
};
use alloc::{string::String, sync::Arc, vec, vec::Vec};
use bytes::Bytes;

/// Runs every check, each on a new, empty storage. Panics at the first difference.
pub fn all(new: &dyn Fn() -> Arc<dyn Storage>) {
    files_are_opened_as_asked(new().as_ref());
    bytes_come_back_as_they_went_in(new().as_ref());
    handles_of_a_file_share_it(new().as_ref());
    directories_list_rename_and_go(new().as_ref());
    paths_stay_inside(new().as_ref());
    small_files_are_replaced_whole(new().as_ref());
}

fn kind<T>(result: Result<T, crate::storage::StorageError>) -> Option<StorageErrorKind> {
    result.err().map(|error| error.kind)
}

fn files_are_opened_as_asked(storage: &dyn Storage) {
    assert_eq!(
        kind(storage.open("a", OpenHow::Existing)),
        Some(StorageErrorKind::NotFound)
    );
    assert_eq!(
        kind(storage.open("a", OpenHow::ReadOnly)),
        Some(StorageErrorKind::NotFound)
    );
    assert_eq!(
        kind(storage.open("no/a", OpenHow::CreateNew)),
        Some(StorageErrorKind::NotFound)
    );
    storage
        .open("a", OpenHow::CreateNew)
        .unwrap()
        .append(&[Bytes::from_static(b"x")])
        .unwrap();
    assert_eq!(
        kind(storage.open("a", OpenHow::CreateNew)),
        Some(StorageErrorKind::AlreadyExists)
    );
    assert_eq!(storage.open("a", OpenHow::OpenOrCreate).unwrap().len(), 1);
    let mut reader = storage.open("a", OpenHow::ReadOnly).unwrap();
    assert!(reader.append(&[Bytes::from_static(b"y")]).is_err());
    assert!(storage.exists("a").unwrap() && !storage.exists("b").unwrap());
    storage.modified_ms("a").unwrap();
    assert_eq!(
        kind(storage.modified_ms("b")),
        Some(StorageErrorKind::NotFound)
    );
    storage.remove_file("a").unwrap();
    assert_eq!(
        kind(storage.remove_file("a")),
        Some(StorageErrorKind::NotFound)
    );
}

fn bytes_come_back_as_they_went_in(storage: &dyn Storage) {
    let mut file = storage.open("f", OpenHow::CreateNew).unwrap();
    let mut expected: Vec<u8> = Vec::new();
    for i in 0..200usize {
        let part = Bytes::from(vec![i as u8; i * 37 % 5000]);
        expected.extend_from_slice(&part);
        expected.push(i as u8);
        file.append(&[part, Bytes::copy_from_slice(&[i as u8])])
            .unwrap();
    }
    let check = |file: &dyn crate::storage::StorageFile, expected: &[u8]| {
        assert_eq!(file.len(), expected.len() as u64);
        for (pos, len) in [
            (0, 1),
            (0, expected.len()),
            (expected.len() / 2, 7),
            (expected.len() - 1, 1),
            (expected.len(), 0),
        ] {
            assert_eq!(
                file.read_exact(pos as u64, len).unwrap(),
                expected[pos..pos + len]
            );
            let mut copy = vec![0; len];
            file.read_into(pos as u64, &mut copy).unwrap();
            assert_eq!(copy, expected[pos..pos + len]);
        }
        assert!(file.read_exact(expected.len() as u64, 1).is_err());
        assert!(file.read_exact(u64::MAX, 1).is_err());
        assert!(file.read_into(expected.len() as u64, &mut [0]).is_err());
    };
    check(file.as_ref(), &expected);
    file.write_at(10, b"0123456789").unwrap();
    expected[10..20].copy_from_slice(b"0123456789");
    check(file.as_ref(), &expected);
    let at = expected.len() - 3;
    file.write_at(at as u64, b"beyond").unwrap();
    expected.truncate(at);
    expected.extend_from_slice(b"beyond");
    check(file.as_ref(), &expected);
    assert!(file.write_at(expected.len() as u64 + 1, b"gap").is_err());
    assert!(file.truncate(expected.len() as u64 + 1).is_err());
    for len in [expected.len() - 1, expected.len() / 2, 61] {
        file.truncate(len as u64).unwrap();
        expected.truncate(len);
        check(file.as_ref(), &expected);
    }
    file.append(&[Bytes::from_static(b"after the cut")])
        .unwrap();
    expected.extend_from_slice(b"after the cut");
    check(file.as_ref(), &expected);
    file.sync().unwrap();
    file.syncer().sync().unwrap();
    file.seal();
    check(file.as_ref(), &expected);
    drop(file);
    check(
        storage.open("f", OpenHow::ReadOnly).unwrap().as_ref(),
        &expected,
    );
    let mut file = storage.open("f", OpenHow::Existing).unwrap();
    file.seal();
    file.append(&[Bytes::from_static(b"!")]).unwrap();
    expected.push(b'!');
    check(file.as_ref(), &expected);
}

fn handles_of_a_file_share_it(storage: &dyn Storage) {
    let mut writer = storage.open("f", OpenHow::CreateNew).unwrap();
    writer.append(&[Bytes::from_static(b"seen")]).unwrap();
    let reader = storage.open("f", OpenHow::ReadOnly).unwrap();
    assert_eq!(reader.read_exact(0, 4).unwrap(), b"seen"[..]);
    // A slice outlives the file.
    let slice = reader.read_exact(1, 2).unwrap();
    drop((writer, reader));
    storage.remove_file("f").unwrap();
    assert_eq!(slice, b"ee"[..]);
}

fn directories_list_rename_and_go(storage: &dyn Storage) {
    storage.create_dir("t-0/deep").unwrap();
    storage.create_dir("t-0").unwrap();
    storage.create_dir("t-00").unwrap();
    for name in ["b", "a", "deep/c"] {
        storage
            .open(&join("t-0", name), OpenHow::CreateNew)
            .unwrap()
            .append(&[Bytes::from_static(b"12")])
            .unwrap();
    }
    let names = |dir: &str| -> Vec<(String, bool, u64)> {
        storage
            .list(dir)
            .unwrap()
            .into_iter()
            .map(|e| (e.name, e.is_dir, if e.is_dir { 0 } else { e.len }))
            .collect()
    };
    assert_eq!(
        names("t-0"),
        [
            ("a".into(), false, 2),
            ("b".into(), false, 2),
            ("deep".into(), true, 0)
        ]
    );
    assert_eq!(
        names(""),
        [("t-0".into(), true, 0), ("t-00".into(), true, 0)]
    );
    assert_eq!(kind(storage.list("none")), Some(StorageErrorKind::NotFound));
    storage.rename("t-0", "t-1").unwrap();
    storage.sync_dir("").unwrap();
    assert_eq!(names("t-1/deep"), [("c".into(), false, 2)]);
    assert!(!storage.exists("t-0").unwrap());
    storage.rename("t-1/a", "t-1/b").unwrap();
    assert_eq!(names("t-1").len(), 2);
    assert_eq!(
        kind(storage.rename("t-1/none", "t-1/x")),
        Some(StorageErrorKind::NotFound)
    );
    storage.remove_dir("t-1").unwrap();
    assert_eq!(names(""), [("t-00".into(), true, 0)]);
    assert_eq!(
        kind(storage.remove_dir("t-1")),
        Some(StorageErrorKind::NotFound)
    );
}

fn paths_stay_inside(storage: &dyn Storage) {
    for path in [
        "../a",
        "/etc/a",
        "a//b",
        "a/../../b",
        ".",
        "a/",
        "x\0y",
        "a\\b",
    ] {
        assert_eq!(
            kind(storage.open(path, OpenHow::OpenOrCreate)),
            Some(StorageErrorKind::Invalid),
            "{path:?}"
        );
        assert_eq!(
            kind(storage.create_dir(path)),
            Some(StorageErrorKind::Invalid),
            "{path:?}"
        );
    }
}

fn small_files_are_replaced_whole(storage: &dyn Storage) {
    assert_eq!(read_file(storage, "c", 10).unwrap(), None);
    write_file(storage, "c", b"one").unwrap();
    write_file(storage, "c", b"2").unwrap();
    assert_eq!(read_file(storage, "c", 10).unwrap().unwrap(), b"2"[..]);
    let syncer = write_file_unsynced(storage, "c", b"3").unwrap();
    assert_eq!(read_file(storage, "c", 10).unwrap().unwrap(), b"3"[..]);
    syncer.sync().unwrap();
    assert_eq!(
        kind(read_file(storage, "c", 0)),
        Some(StorageErrorKind::Invalid)
    );
    assert_eq!(storage.list("").unwrap().len(), 1);
}
