//! The topics as the coordinator knows them: the broker tells it of every change.

use alloc::collections::BTreeMap;
use ottla_protocol::{Str, Uuid};

/// One topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::groups) struct Topic {
    pub id: Uuid,
    pub partitions: i32,
}

/// All topics, by name and by id.
#[derive(Debug, Default)]
pub(in crate::groups) struct Topics {
    by_name: BTreeMap<Str, Topic>,
    names: BTreeMap<Uuid, Str>,
    /// Rises with each change.
    pub version: i64,
}

impl Topics {
    pub fn by_name(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name.as_bytes())
    }

    pub fn name(&self, id: &Uuid) -> Option<&Str> {
        self.names.get(id)
    }

    pub fn names(&self) -> impl Iterator<Item = &Str> {
        self.by_name.keys()
    }

    pub fn set(&mut self, name: &Str, topic: Topic) {
        self.version += 1;
        self.names.insert(topic.id, name.clone());
        if let Some(before) = self.by_name.insert(name.clone(), topic)
            && before.id != topic.id
        {
            self.names.remove(&before.id);
        }
    }

    pub fn remove(&mut self, name: &Str) {
        self.version += 1;
        if let Some(topic) = self.by_name.remove(name) {
            self.names.remove(&topic.id);
        }
    }
}
