//! Producing on the client's thread: records of one `send` go in together, its promise settles when all of its delivery reports
//! are there.

use crate::{
    client::{Command, Outlet},
    value::Value,
};
use ottla::{
    Config, DeliveryBatch, ErrCode, Event, Handle, Header, KafkaError, ProduceRecord, TopicHandle,
};
use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// `acks`, compression and request timeout in ms, which KafkaJS takes with each `send`: for each combination there is a handle.
pub type LaneKey = (i32, String, u32);

/// In place of a lane's number: the handle that was made for the usual lane, while nothing is sent in it. Administrators send nothing.
const FIRST: usize = usize::MAX;

/// Numbers in the table for each record.
const COLUMNS: usize = 6;

/// The records of one `send`; see [`NativeClient::produce`](crate::client::NativeClient::produce) for the form.
pub struct Send {
    pub id: u32,
    /// Topics, each with its number of records.
    pub topics: Vec<(String, usize)>,
    pub table: Vec<i32>,
    pub data: Vec<u8>,
    pub lane: LaneKey,
}

struct Lane {
    key: LaneKey,
    handle: Handle,
    topics: HashMap<String, TopicHandle>,
    /// Whether records may linger in it.
    is_fresh: bool,
}

/// What was delivered to a partition: that of the batch with the first of the records.
struct Delivered {
    topic: String,
    partition: i32,
    base_offset: i64,
    log_append_time: i64,
    log_start_offset: i64,
}

/// A `send` whose reports are not all there.
struct Pending {
    left: usize,
    delivered: Vec<Delivered>,
    error: Option<KafkaError>,
}

pub struct Producer {
    config: Config,
    create_topics: bool,
    commands: mpsc::Sender<Command>,
    outlet: Outlet,
    first: Option<Handle>,
    lanes: Vec<Lane>,
    known_topics: BTreeSet<String>,
    /// By the records' opaque value, which is the call's id.
    pending: HashMap<usize, Pending>,
}

impl Producer {
    /// `handle` becomes the first lane's.
    pub fn new(
        config: Config,
        create_topics: bool,
        commands: mpsc::Sender<Command>,
        outlet: Outlet,
        handle: Handle,
    ) -> Self {
        listen(&handle, &commands, FIRST);
        Self {
            config,
            create_topics,
            commands,
            outlet,
            first: Some(handle),
            lanes: Vec::new(),
            known_topics: BTreeSet::new(),
            pending: HashMap::new(),
        }
    }

    /// Produces the records of one `send`.
    pub fn send(&mut self, send: Send) {
        let id = send.id;
        if let Err(error) = self.produce(send) {
            self.pending.remove(&(id as usize));
            self.outlet.done(id, Err(error));
        }
    }

    fn produce(&mut self, send: Send) -> Result<(), KafkaError> {
        let lane = self.lane(&send.lane)?;
        let mut topics = Vec::with_capacity(send.topics.len());
        for (name, count) in &send.topics {
            topics.push((self.topic(lane, name)?, *count));
        }
        let headers = headers(&send).ok_or_else(malformed)?;
        let total = send.table.len() / COLUMNS;
        if topics.iter().map(|(_, count)| count).sum::<usize>() != total {
            return Err(malformed());
        }
        let pending = Pending {
            left: total,
            delivered: Vec::new(),
            error: None,
        };
        self.pending.insert(send.id as usize, pending);
        let handle = self.lanes[lane].handle.clone();
        self.lanes[lane].is_fresh = true;
        let mut records = Records::new(&send, &topics, &headers);
        loop {
            // A full queue ends the batch; it goes on behind the records that were taken.
            let full = Cell::new(false);
            let before = records;
            let mut failed = Vec::new();
            let offered = std::iter::from_fn(|| (!full.get()).then(|| records.next()).flatten());
            let mut refused_at = None;
            handle.produce_batch(offered, |index, error| {
                if error.code == ErrCode::QUEUE_FULL {
                    full.set(true);
                    refused_at = Some(index);
                } else {
                    failed.push(error);
                }
            });
            for error in failed {
                self.settle_one(send.id as usize, error);
            }
            let Some(index) = refused_at else { break };
            records = before;
            for _ in 0..index {
                records.next();
            }
            if self.reports(lane) == 0
                && let Some(event) = handle.main_queue().poll(Duration::from_millis(10))
            {
                self.event(event);
            }
        }
        if self
            .pending
            .get(&(send.id as usize))
            .is_some_and(|p| p.left == 0)
        {
            self.finish(send.id as usize);
        }
        self.reports(lane);
        Ok(())
    }

    /// Sends what lingers.
    pub fn send_now(&mut self) {
        for lane in 0..self.lanes.len() {
            if std::mem::take(&mut self.lanes[lane].is_fresh) {
                let handle = self.lanes[lane].handle.clone();
                // It only begins: the reports of what takes longer come through the hook.
                let _ = handle.flush_serving(Duration::ZERO, &mut |event| {
                    self.event(event);
                });
                self.reports(lane);
            }
        }
    }

    /// The lane's index; a new one is opened for a new combination.
    fn lane(&mut self, key: &LaneKey) -> Result<usize, KafkaError> {
        if let Some(index) = self.lanes.iter().position(|lane| lane.key == *key) {
            return Ok(index);
        }
        let (acks, compression, timeout) = key;
        // The first handle was made for the usual combination.
        let usual = *acks == -1 && compression == "none" && *timeout == 30_000;
        let handle = match self.first.take_if(|_| usual) {
            Some(handle) => handle,
            None => {
                let mut config = self.config.clone();
                config.set("acks", &acks.to_string())?;
                config.set("compression.type", compression)?;
                config.set("request.timeout.ms", &timeout.to_string())?;
                Handle::new(ottla::Role::Producer, config)?
            }
        };
        let index = self.lanes.len();
        listen(&handle, &self.commands, index);
        self.lanes.push(Lane {
            key: key.clone(),
            handle,
            topics: HashMap::new(),
            is_fresh: false,
        });
        Ok(index)
    }

    fn topic(&mut self, lane: usize, name: &str) -> Result<TopicHandle, KafkaError> {
        if let Some(topic) = self.lanes[lane].topics.get(name) {
            return Ok(*topic);
        }
        let handle = &self.lanes[lane].handle;
        if !self.create_topics && !self.known_topics.contains(name) {
            // Asking for all topics creates none.
            let metadata = handle.metadata(None, Duration::from_secs(30))?;
            let names = metadata.topics.iter().map(|topic| topic.name.to_string());
            self.known_topics = names.collect();
            if !self.known_topics.contains(name) {
                return Err(KafkaError::from(ErrCode::from(
                    ottla::ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                )));
            }
        }
        let topic = handle.topic(name)?;
        self.lanes[lane].topics.insert(name.to_owned(), topic);
        Ok(topic)
    }

    /// Takes the reports that are there; returns how many records they were about.
    pub fn reports(&mut self, lane: usize) -> usize {
        let handle = match lane {
            FIRST => self.first.as_ref(),
            lane => self.lanes.get(lane).map(|lane| &lane.handle),
        };
        let Some(handle) = handle else {
            return 0;
        };
        let queue = handle.main_queue();
        let mut count = 0;
        while let Some(event) = queue.poll(Duration::ZERO) {
            count += self.event(event);
        }
        count
    }

    fn event(&mut self, event: Event) -> usize {
        match event {
            Event::Delivery(batch) => {
                let count = batch.len();
                self.delivered(batch);
                count
            }
            Event::Error(error) => {
                self.outlet.event("error", (&error).into());
                0
            }
            Event::Throttle(throttle) => {
                self.outlet.throttle(&throttle);
                0
            }
            _ => 0,
        }
    }

    /// Counts one batch's records to their sends. Neighbours mostly belong to the same.
    fn delivered(&mut self, mut batch: DeliveryBatch) {
        let topic = batch.topic().to_string();
        let partition = batch.partition();
        let error = batch.error().cloned();
        // Send, records, first offset.
        let mut runs: Vec<(usize, usize, i64)> = Vec::new();
        while let Some(report) = batch.next() {
            match runs.last_mut() {
                Some(run) if run.0 == report.opaque => run.1 += 1,
                _ => runs.push((report.opaque, 1, report.offset)),
            }
        }
        for (id, count, base_offset) in runs {
            let Some(pending) = self.pending.get_mut(&id) else {
                continue;
            };
            pending.left = pending.left.saturating_sub(count);
            match &error {
                Some(error) => pending.error = pending.error.take().or(Some(error.clone())),
                None => {
                    let delivered = Delivered {
                        topic: topic.clone(),
                        partition,
                        base_offset,
                        log_append_time: batch.log_append_time(),
                        log_start_offset: batch.log_start_offset(),
                    };
                    let known = pending
                        .delivered
                        .iter_mut()
                        .find(|known| known.topic == topic && known.partition == partition);
                    match known {
                        Some(known) if known.base_offset <= base_offset => {}
                        Some(known) => *known = delivered,
                        None => pending.delivered.push(delivered),
                    }
                }
            }
            if pending.left == 0 {
                self.finish(id);
            }
        }
    }

    fn settle_one(&mut self, id: usize, error: KafkaError) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.left = pending.left.saturating_sub(1);
            pending.error.get_or_insert(error);
        }
    }

    fn finish(&mut self, id: usize) {
        let Some(mut pending) = self.pending.remove(&id) else {
            return;
        };
        pending
            .delivered
            .sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let entry = |delivered: Delivered| {
            Value::List(vec![
                Value::Text(delivered.topic),
                delivered.partition.into(),
                delivered.base_offset.into(),
                delivered.log_append_time.into(),
                delivered.log_start_offset.into(),
            ])
        };
        let result = match pending.error {
            Some(error) => Err(error),
            None => Ok(Value::list(pending.delivered.into_iter().map(entry))),
        };
        self.outlet.done(id as u32, result);
    }

    /// Waits for what is on its way; what isn't delivered then fails.
    pub fn close(mut self, timeout: Duration) {
        let until = Instant::now() + timeout;
        for lane in 0..self.lanes.len() {
            self.reports(lane);
            let handle = self.lanes[lane].handle.clone();
            let left = until.saturating_duration_since(Instant::now());
            let _ = handle.flush_serving(left, &mut |event| {
                self.event(event);
            });
            handle.main_queue().set_hook(None);
        }
        if let Some(first) = &self.first {
            first.main_queue().set_hook(None);
        }
        let ids: Vec<usize> = self.pending.keys().copied().collect();
        for id in ids {
            let error = KafkaError::new(ErrCode::DESTROY, "the producer was disconnected");
            self.outlet.done(id as u32, Err(error));
        }
    }
}

/// What comes into the handle's main queue is taken out by the client's thread.
fn listen(handle: &Handle, commands: &mpsc::Sender<Command>, lane: usize) {
    let commands = commands.clone();
    handle.main_queue().set_hook(Some(Arc::new(move || {
        let _ = commands.send(Command::Deliveries(lane));
    })));
}

fn malformed() -> KafkaError {
    KafkaError::new(ErrCode::INVALID_ARG, "the encoded messages are malformed")
}

/// Splits `length` bytes off; `None` if there are fewer. A negative length is null.
fn split<'a>(data: &mut &'a [u8], length: i32) -> Option<Option<&'a [u8]>> {
    let Ok(length) = usize::try_from(length) else {
        return Some(None);
    };
    let (head, rest) = data.split_at_checked(length)?;
    *data = rest;
    Some(Some(head))
}

fn split_number(data: &mut &[u8]) -> Option<i32> {
    let (head, rest) = data.split_first_chunk()?;
    *data = rest;
    Some(i32::from_le_bytes(*head))
}

/// All headers of a send in a row. Checks that the data is as long as the table says, too.
fn headers(send: &Send) -> Option<Vec<Header<'_>>> {
    let mut data = &*send.data;
    let mut all = Vec::new();
    for row in send.table.chunks_exact(COLUMNS) {
        split(&mut data, row[1])?;
        split(&mut data, row[2])?;
        for _ in 0..row[3] {
            let name_length = split_number(&mut data)?;
            let value_length = split_number(&mut data)?;
            let key = split(&mut data, name_length)??;
            let value = split(&mut data, value_length)?;
            all.push(Header { key, value });
        }
    }
    Some(all)
}

/// The records of a send. A copy goes on by itself.
#[derive(Clone, Copy)]
struct Records<'a> {
    table: &'a [i32],
    data: &'a [u8],
    headers: &'a [Header<'a>],
    topics: &'a [(TopicHandle, usize)],
    /// Records that are left of the first topic.
    left: usize,
    opaque: usize,
}

impl<'a> Records<'a> {
    fn new(send: &'a Send, topics: &'a [(TopicHandle, usize)], headers: &'a [Header<'a>]) -> Self {
        Self {
            table: &send.table,
            data: &send.data,
            headers,
            topics,
            left: topics.first().map_or(0, |(_, count)| *count),
            opaque: send.id as usize,
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = ProduceRecord<'a>;

    fn next(&mut self) -> Option<ProduceRecord<'a>> {
        while self.left == 0 {
            self.topics = self.topics.get(1..)?;
            self.left = self.topics.first()?.1;
        }
        let (row, table) = self.table.split_first_chunk::<COLUMNS>()?;
        self.table = table;
        self.left -= 1;
        let key = split(&mut self.data, row[1])?;
        let value = split(&mut self.data, row[2])?;
        let (headers, rest) = self.headers.split_at_checked(row[3].max(0) as usize)?;
        self.headers = rest;
        for header in headers {
            let length = 8 + header.key.len() + header.value.map_or(0, <[u8]>::len);
            self.data = self.data.get(length..)?;
        }
        Some(ProduceRecord {
            topic: self.topics.first()?.0,
            partition: row[0],
            key,
            value,
            headers,
            timestamp: i64::from(row[4] as u32) | i64::from(row[5]) << 32,
            opaque: self.opaque,
            payload_addr: 0,
        })
    }
}
