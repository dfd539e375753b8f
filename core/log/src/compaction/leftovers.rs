//! What a crash left of replaced and deleted segments, put in order before a log is opened: Kafka's rules, and for every
//! moment at which a power cut may stop this very work.

use crate::{
    damage::Ranges,
    durable_mark,
    error::LogError,
    headers::HeaderReader,
    names::{
        INDEX, LOG, SNAPSHOT, TIME_INDEX, TXN_INDEX, file_name, offset_of,
        suffix::{CLEANED, DELETED, SWAP, TMP},
    },
    storage::{OpenHow, Storage, StorageError, join},
};
use alloc::{format, string::String, vec::Vec};

/// The side files of a segment that are of no use without its log.
const INDEXES: [&str; 3] = [INDEX, TIME_INDEX, TXN_INDEX];

/// Removes what was deleted or not finished, and finishes replacements: afterwards a log's directory holds segments only.
///
/// * `.deleted` and `.tmp` go.
/// * `.cleaned` was not finished and goes. Where there is one, so do `.swap` files of the same or larger base offsets: they
///   are the second part of one segment that was split (only a broker on the JVM does that), whose first part isn't there.
/// * A `.log.swap` was finished: the segments that it was made of go, and it gets its name. One that can't be read to its end
///   goes, if the first segment that it was made of is still there, since then all of them are.
/// * Other `.swap` files have no log and go.
pub(crate) fn settle(storage: &dyn Storage, dir: &str) -> Result<(), LogError> {
    let mut names = names(storage, dir)?;
    remove(storage, dir, &mut names, |name| {
        name.ends_with(DELETED) || name.ends_with(TMP)
    })?;
    let first_cleaned = names
        .iter()
        .filter_map(|name| offset_of(name.strip_suffix(CLEANED)?, LOG))
        .min();
    if let Some(first) = first_cleaned {
        let gone = remove(storage, dir, &mut names, |name| {
            base_of(name, SWAP).is_some_and(|base| base >= first)
        })?;
        if gone {
            // Not before they are gone for good may go what says that they must.
            storage.sync_dir(dir)?;
        }
    }
    remove(storage, dir, &mut names, |name| name.ends_with(CLEANED))?;
    let swapped: Vec<i64> = names
        .iter()
        .filter_map(|name| offset_of(name.strip_suffix(SWAP)?, LOG))
        .collect();
    for &base in &swapped {
        finish_swap(storage, dir, &mut names, base)?;
    }
    if !swapped.is_empty() {
        // The next compaction's `.cleaned` must not meet a `.swap` that came back.
        storage.sync_dir(dir)?;
    }
    remove(storage, dir, &mut names, |name| name.ends_with(SWAP))?;
    Ok(())
}

/// Whether something is left of what was replaced or deleted.
pub(crate) fn has_leftovers(storage: &dyn Storage, dir: &str) -> Result<bool, StorageError> {
    let is_left = |name: &String| {
        [CLEANED, SWAP, DELETED]
            .iter()
            .any(|suffix| name.ends_with(suffix))
    };
    Ok(names(storage, dir)?.iter().any(is_left))
}

fn finish_swap(
    storage: &dyn Storage,
    dir: &str,
    names: &mut Vec<String>,
    base: i64,
) -> Result<(), LogError> {
    let swap = format!("{}{SWAP}", file_name(base, LOG));
    let (below, is_whole) = end_of(storage, &join(dir, &swap), base)?;
    let is_new = |name: &str| base_of(name, SWAP) == Some(base);
    if !is_whole && names.contains(&file_name(base, LOG)) {
        // The log first: without it the others count for nothing.
        remove(storage, dir, names, |name| *name == swap)?;
        remove(storage, dir, names, is_new)?;
        return Ok(());
    }
    // An old index must never meet the new log. A snapshot is right wherever it is.
    let is_old = |name: &str| match base_of(name, "") {
        Some(of) if of == base => !name.ends_with(SNAPSHOT),
        Some(of) => of > base && of < below,
        None => false,
    };
    if remove(storage, dir, names, is_old)? {
        storage.sync_dir(dir)?;
    }
    durable_mark::disown(storage, dir, base)?;
    // The log last: as long as it has the suffix, this is not done.
    let mut new: Vec<String> = names.iter().filter(|name| is_new(name)).cloned().collect();
    new.sort_by_key(|name| *name == swap);
    for name in new {
        let to = &name[..name.len() - SWAP.len()];
        storage.rename(&join(dir, &name), &join(dir, to))?;
        names.retain(|other| *other != name);
        names.push(to.into());
    }
    Ok(())
}

/// The base offset of a segment's file, whichever it is.
fn base_of(name: &str, suffix: &str) -> Option<i64> {
    let name = name.strip_suffix(suffix)?;
    [LOG, SNAPSHOT]
        .iter()
        .chain(&INDEXES)
        .find_map(|kind| offset_of(name, kind))
}

/// The offset after a log file's last readable batch, and whether that is its end.
fn end_of(storage: &dyn Storage, path: &str, base: i64) -> Result<(i64, bool), LogError> {
    let file = storage.open(path, OpenHow::ReadOnly)?;
    let size = file.len();
    let damaged = Ranges::default();
    let mut headers = HeaderReader::new(file.as_ref(), path, size, &damaged);
    let (mut position, mut below) = (0, base);
    loop {
        match headers.at(position) {
            Ok(None) => return Ok((below, true)),
            Ok(Some(placed)) if placed.header.base_offset >= below => {
                below = placed.header.next_offset();
                position = placed.end();
            }
            Err(LogError::Storage(error)) => return Err(error.into()),
            Ok(Some(_)) | Err(_) => return Ok((below, false)),
        }
    }
}

fn names(storage: &dyn Storage, dir: &str) -> Result<Vec<String>, StorageError> {
    let entries = storage.list(dir)?.into_iter();
    Ok(entries
        .filter(|entry| !entry.is_dir)
        .map(|entry| entry.name)
        .collect())
}

/// Removes the files that `is_gone` picks; whether there were any.
fn remove(
    storage: &dyn Storage,
    dir: &str,
    names: &mut Vec<String>,
    is_gone: impl Fn(&str) -> bool,
) -> Result<bool, StorageError> {
    let before = names.len();
    for name in names.iter().filter(|name| is_gone(name)) {
        storage.remove_file(&join(dir, name))?;
    }
    names.retain(|name| !is_gone(name));
    Ok(names.len() < before)
}
