//! What deleted topics leave: their directories get another name at once, and are removed beside the requests, however much is in
//! them: see [`crate::Output::Remove`].

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use core::fmt;

use ottla_log::{
    Storage, StorageError, StorageErrorKind,
    data_dir::{self, partition_dir},
};
use ottla_protocol::Uuid;

use crate::{Broker, output::Output, state_files::StoredTopic};

/// Longest name of a directory, as in Kafka.
const MAX_DIR_LEN: usize = 255;

/// Directories to remove, on whatever thread: it needs nothing of the broker.
pub struct RemovalJob {
    storage: Arc<dyn Storage>,
    /// Of each topic what it has left.
    topics: Vec<(Uuid, Vec<String>)>,
}

impl RemovalJob {
    /// Does it. Takes as long as the file system needs to free what is in there: with some, seconds for a hundred gigabytes.
    #[must_use]
    pub fn run(self) -> Removed {
        let Self { storage, topics } = self;
        let is_gone = |dir: &String| match storage.remove_dir(dir) {
            Err(error) => error.kind == StorageErrorKind::NotFound,
            Ok(()) => true,
        };
        let mut gone = Vec::with_capacity(topics.len());
        for (topic, dirs) in topics {
            // All of them, also after one that can't be removed.
            if dirs.iter().filter(|dir| !is_gone(dir)).count() == 0 {
                gone.push(topic);
            }
        }
        // The registry forgets them only when they can't come back.
        if storage.sync_dir("").is_err() {
            gone.clear();
        }
        Removed { topics: gone }
    }
}

impl fmt::Debug for RemovalJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemovalJob").field(&self.topics).finish()
    }
}

/// What came of a [`RemovalJob`].
#[derive(Debug)]
pub struct Removed {
    /// The topics of which nothing is left.
    topics: Vec<Uuid>,
}

/// What the directory of a deleted partition is called until it is removed: Kafka's name for it.
fn removed_dir(topic: &StoredTopic, number: i32) -> String {
    let id = u128::from_be_bytes(topic.id.0);
    let suffix = format!("-{number}.{id:032x}-delete");
    let len = topic.name.len().min(MAX_DIR_LEN - suffix.len());
    format!("{}{suffix}", &topic.name[..len])
}

/// Gives the topic's directories the names under which they are removed: those that there are. The old names are free then.
fn set_aside(storage: &dyn Storage, topic: &StoredTopic) -> Result<Vec<String>, StorageError> {
    let mut dirs = Vec::new();
    for number in 0..topic.partitions {
        let (dir, aside) = (
            partition_dir(&topic.name, number),
            removed_dir(topic, number),
        );
        let is_aside = storage.exists(&aside)?;
        // The name may have been taken again by a younger topic.
        let id = data_dir::read_topic_id(storage, &dir).ok().flatten();
        if id.is_none_or(|id| id == topic.id.to_string()) && storage.exists(&dir)? {
            if is_aside {
                // A power cut took back a part of the renaming.
                storage.remove_dir(&dir)?;
            } else {
                storage.rename(&dir, &aside)?;
            }
        } else if !is_aside {
            continue;
        }
        dirs.push(aside);
    }
    Ok(dirs)
}

impl Broker {
    /// Sets the directories of deleted topics aside, and asks for their removal. What fails is tried again at the next open.
    pub(crate) fn remove_deleted_directories(&mut self) {
        let job = self.removal();
        if !job.topics.is_empty() {
            self.outputs.push_back(Output::Remove { job });
        }
    }

    /// The same at once: at open, when nobody waits for anything yet.
    pub(crate) fn remove_deleted_directories_now(&mut self) {
        let removed = self.removal().run();
        self.topics.forget_deleted(&removed.topics);
    }

    fn removal(&mut self) -> RemovalJob {
        let storage = self.storage.clone();
        let mut topics = Vec::new();
        self.topics.each_to_remove(|topic| {
            let dirs = set_aside(&*storage, topic);
            let is_done = dirs.is_ok();
            topics.extend(dirs.ok().map(|dirs| (topic.id, dirs)));
            is_done
        });
        RemovalJob { storage, topics }
    }

    /// A removal is through.
    pub fn handle_removed(&mut self, removed: Removed) {
        if self.topics.forget_deleted(&removed.topics) && !self.closed {
            // If it can't be written, the next one is; who opens this finds nothing to remove.
            let _ = self.write_registry();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Durability, Output,
        testing::{Harness, batch, values},
    };
    use ottla_log::Storage;
    use ottla_protocol::{
        ErrorCode, Request, Response,
        messages::{DeleteTopicsRequest, delete_topics::DeleteTopicState},
    };
    use std::{string::String, vec, vec::Vec};

    fn delete(h: &mut Harness, name: &str) -> ErrorCode {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(name.into()),
                ..Default::default()
            }],
            ..Default::default()
        };
        let Response::DeleteTopics(answer) = h.ask(6, Request::DeleteTopics(request)) else {
            panic!()
        };
        answer.responses[0].error_code
    }

    fn directories(h: &Harness) -> Vec<String> {
        let all = h.storage.list("").unwrap().into_iter();
        all.map(|entry| entry.name)
            .filter(|name| name.starts_with("t-"))
            .collect()
    }

    #[test]
    fn nobody_waits_for_the_removal_of_what_a_deleted_topic_had() {
        let mut h = Harness::new(Durability::Os);
        h.holds_removals = true;
        h.create_topic("t", 2, &[]);
        h.create_topic("u", 1, &[]);
        h.produce("t", 0, batch(&["old"]));
        let id = h.broker.topics.by_name("t").unwrap().id;
        assert_eq!(delete(&mut h, "t"), ErrorCode::NONE);
        // All is still there, by another name; requests go on, and the name is free.
        let hex = std::format!("{:032x}", u128::from_be_bytes(id.0));
        let aside = |number: i32| std::format!("t-{number}.{hex}-delete");
        assert_eq!(directories(&h), [aside(0), aside(1)]);
        assert_eq!(h.produce("u", 0, batch(&["v"])).error_code, ErrorCode::NONE);
        h.create_topic("t", 1, &[]);
        assert_eq!(h.produce("t", 0, batch(&["new"])).base_offset, 0);
        assert_eq!(directories(&h), [String::from("t-0"), aside(0), aside(1)]);

        assert_eq!(h.removals.len(), 1);
        let removed = h.removals.remove(0).run();
        h.broker.handle_removed(removed);
        assert_eq!(directories(&h), ["t-0"]);
        let mut h = h.restart(false);
        assert_eq!(values(&h.fetch("t", 0, 0).records), ["new"]);
    }

    #[test]
    fn a_removal_that_a_crash_cuts_off_is_made_good_for_at_the_next_open() {
        for how_far in 0..3 {
            let mut h = Harness::new(Durability::Os);
            h.holds_removals = true;
            h.create_topic("t", 2, &[]);
            let id = h.broker.topics.by_name("t").unwrap().id;
            assert_eq!(delete(&mut h, "t"), ErrorCode::NONE);
            h.create_topic("t", 1, &[]);
            h.produce("t", 0, batch(&["new"]));
            let hex = std::format!("{:032x}", u128::from_be_bytes(id.0));
            match how_far {
                0 => {}
                // The renaming of one was not durable.
                1 => h
                    .storage
                    .rename(&std::format!("t-1.{hex}-delete"), "t-1")
                    .unwrap(),
                // The directories went, and the registry wasn't written any more.
                _ => drop(h.removals.remove(0).run()),
            }
            let mut h = h.restart(false);
            assert_eq!(directories(&h), ["t-0"], "{how_far}");
            assert_eq!(values(&h.fetch("t", 0, 0).records), ["new"]);
            assert!(!matches!(
                h.broker.poll_output(),
                Some(Output::Remove { .. })
            ));
        }
    }

    #[test]
    fn what_can_not_be_removed_is_not_forgotten() {
        let mut h = Harness::new(Durability::Os);
        h.create_topic("t", 1, &[]);
        h.holds_removals = true;
        assert_eq!(delete(&mut h, "t"), ErrorCode::NONE);
        drop(h.removals.remove(0));
        assert_eq!(directories(&h).len(), 1);
        // Another deletion doesn't take it for its own while a job may have it.
        h.create_topic("u", 1, &[]);
        assert_eq!(delete(&mut h, "u"), ErrorCode::NONE);
        let removed = h.removals.remove(0).run();
        h.broker.handle_removed(removed);
        assert_eq!(directories(&h).len(), 1);
        assert!(directories(&h.restart(true)).is_empty());
    }
}
