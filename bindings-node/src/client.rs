//! The one class of the addon, and the thread behind each of its objects.

use crate::{
    consume::{Poller, Starting, Subscription},
    produce::{Producer, Send},
    value::Value,
};
use napi::{Status, bindgen_prelude::*, threadsafe_function::*};
use napi_derive::napi;
use ottla::{Config, ErrCode, Handle, KafkaError, Role, Throttle, TopicPartition};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

/// What the callback gets: the number of a call that is done (0: an event), its error or the event's name, and its value.
pub type Message = (u32, Value, Value);
/// The callback; it doesn't keep the process alive.
pub type Callback =
    ThreadsafeFunction<Message, Unknown<'static>, FnArgs<Message>, Status, false, true>;

/// Something to do on the client's thread.
pub type Job =
    Box<dyn FnOnce(&Handle) -> std::result::Result<Value, KafkaError> + std::marker::Send>;

/// What the client's thread is told.
pub enum Command {
    /// Open the broker.
    Connect(u32),
    /// Run something that may wait.
    Run(u32, Job),
    /// Produce the records of one send.
    Produce(Send),
    /// Delivery reports wait in this lane.
    Deliveries(usize),
    /// Give everything up, after waiting this long for what is on its way.
    Close(u32, Duration),
}

/// How the threads of a client reach JavaScript.
#[derive(Clone)]
pub struct Outlet(Arc<Callback>);

impl Outlet {
    /// A call is done.
    pub fn done(&self, id: u32, result: std::result::Result<Value, KafkaError>) {
        let message = match result {
            Ok(value) => (id, Value::Null, value),
            Err(error) => (id, (&error).into(), Value::Null),
        };
        self.0
            .call(message, ThreadsafeFunctionCallMode::NonBlocking);
    }

    /// A broker makes the client wait, or no longer.
    pub fn throttle(&self, throttle: &Throttle) {
        let value = vec![
            ("brokerName", throttle.broker_name.as_str().into()),
            ("brokerId", throttle.broker_id.into()),
            ("throttleTime", Value::Number(throttle.throttle_ms.into())),
        ];
        self.event("throttle", Value::Map(value));
    }

    /// Something happened.
    pub fn event(&self, name: &'static str, value: Value) {
        let message = (0, name.into(), value);
        self.0
            .call(message, ThreadsafeFunctionCallMode::NonBlocking);
    }
}

/// The lock, even if a thread panicked with it.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A producer, consumer or administrator.
#[napi]
pub struct NativeClient {
    commands: mpsc::Sender<Command>,
    outlet: Outlet,
    /// The consumer's poll thread, from `start` on.
    poller: Mutex<Option<Arc<Poller>>>,
}

#[napi]
impl NativeClient {
    /// `properties` are names and values in turn. Opens nothing yet; throws for an unknown property or a bad value.
    #[napi(constructor)]
    pub fn new(
        is_consumer: bool,
        properties: Vec<String>,
        create_topics: bool,
        callback: Function<'_, FnArgs<Message>, Unknown<'static>>,
    ) -> Result<Self> {
        let callback: Callback = callback
            .build_threadsafe_function::<Message>()
            .weak::<true>()
            .callee_handled::<false>()
            .build_callback(|context| Ok(FnArgs::from(context.value)))?;
        let outlet = Outlet(Arc::new(callback));
        let mut config = Config::new();
        for pair in properties.chunks_exact(2) {
            config
                .set(&pair[0], &pair[1])
                .map_err(|error| Error::from_reason(error.to_string()))?;
        }
        let role = if is_consumer {
            Role::Consumer
        } else {
            Role::Producer
        };
        config.set_rebalance_events(is_consumer);
        config.set_throttle_events(true);
        let lines = outlet.clone();
        config.set_logger(Some(Arc::new(move |line| {
            let entry = vec![
                ("level", i32::from(line.level).into()),
                ("facility", line.facility.into()),
                ("message", line.message.as_str().into()),
            ];
            lines.event("log", Value::Map(entry));
        })));
        let (commands, inbox) = mpsc::channel();
        let worker = Worker {
            role,
            config,
            create_topics,
            commands: commands.clone(),
            outlet: outlet.clone(),
            producer: None,
            handle: None,
        };
        std::thread::Builder::new()
            .name("ottla-node".to_owned())
            .spawn(move || worker.run(&inbox))
            .map_err(|error| Error::from_reason(error.to_string()))?;
        Ok(Self {
            commands,
            outlet,
            poller: Mutex::default(),
        })
    }

    /// Opens the broker, or joins the handles of this process that share it.
    #[napi]
    pub fn connect(&self, id: u32) {
        self.send(id, Command::Connect(id));
    }

    /// Ends the client after at most `timeout` ms of waiting for records on their way.
    #[napi]
    pub fn close(&self, id: u32, timeout: u32) {
        self.send(
            id,
            Command::Close(id, Duration::from_millis(timeout.into())),
        );
    }

    /// Produces the records of one `send`. `table` has, for each record, its partition (-1: the partitioner), the lengths of key and
    /// value (-1: null), the number of headers, and the low and high half of its timestamp; `data` has the bytes, one record after
    /// another: key, value, and for each header two little-endian lengths, name and value. The bytes are copied before this returns.
    #[napi]
    #[allow(clippy::too_many_arguments)] // one call, as it crosses the border
    pub fn produce(
        &self,
        id: u32,
        topics: Vec<String>,
        counts: Vec<u32>,
        table: Int32ArraySlice<'_>,
        table_len: u32,
        data: BufferSlice<'_>,
        data_len: u32,
        acks: i32,
        compression: String,
        timeout: u32,
    ) -> Result<()> {
        let (Some(table), Some(data)) = (
            table.get(..table_len as usize),
            data.get(..data_len as usize),
        ) else {
            return Err(Error::from_reason("the table or the data is too short"));
        };
        let send = Send {
            id,
            topics: topics
                .into_iter()
                .zip(counts.into_iter().map(|count| count as usize))
                .collect(),
            table: table.to_vec(),
            data: data.to_vec(),
            lane: (acks, compression, timeout),
        };
        self.send(id, Command::Produce(send));
        Ok(())
    }

    /// Joins the group and begins to poll. `from_beginning` goes with `topics`; JavaScript has `revoke_timeout` ms to work off what it
    /// has of partitions that are revoked.
    #[napi]
    pub fn start(
        &self,
        id: u32,
        topics: Vec<String>,
        from_beginning: Vec<bool>,
        credits: i32,
        revoke_timeout: u32,
    ) {
        let poller = Poller::new(self.outlet.clone(), credits);
        *lock(&self.poller) = Some(poller.clone());
        let subscription: Subscription = topics.into_iter().zip(from_beginning).collect();
        let starting = Starting(poller);
        self.run(id, move |handle| {
            let revoke_timeout = Duration::from_millis(revoke_timeout.into());
            let poller = starting.0.clone();
            poller.start(handle.clone(), subscription, revoke_timeout)?;
            Ok(Value::Null)
        });
    }

    /// A batch was worked off: another one may come.
    #[napi]
    pub fn credit(&self) {
        self.with_poller(Poller::credit);
    }

    /// Goes on at this offset; batches that come from there bear `epoch`.
    #[napi]
    pub fn seek(&self, topic: String, partition: i32, offset: f64, epoch: u32) {
        let partition = TopicPartition::new(topic.as_str(), partition, offset as i64);
        self.with_poller(|poller| poller.seek(partition, epoch));
    }

    /// Pauses partitions, or goes on with them.
    #[napi]
    pub fn pause(&self, topic: String, partitions: Vec<i32>, paused: bool) {
        let of = |p| TopicPartition::new(topic.as_str(), p, ottla::offset::INVALID);
        let partitions = partitions.into_iter().map(of).collect();
        self.with_poller(|poller| poller.pause(partitions, paused));
    }

    /// JavaScript has worked off what it had of partitions that are revoked.
    #[napi]
    pub fn revoked(&self) {
        self.with_poller(Poller::revoked);
    }

    /// Leaves the group; call `close` afterwards.
    #[napi]
    pub fn stop(&self, id: u32) {
        match lock(&self.poller).take() {
            Some(poller) => poller.stop(id),
            None => self.outlet.done(id, Ok(Value::Null)),
        }
    }

    /// The application is alive, however long it takes for what it has. Gives the member's id and generation, -1 if it is out of
    /// the group: its session is over, or it was thrown out.
    #[napi]
    pub fn heartbeat(&self, id: u32) {
        self.run(id, move |handle| {
            handle.count_as_poll();
            let group = handle.group_metadata();
            let group = group.as_ref();
            Ok(Value::Map(vec![
                (
                    "memberId",
                    group.map_or(Value::Null, |g| (&*g.member_id).into()),
                ),
                ("generationId", group.map_or(-1, |g| g.generation).into()),
            ]))
        });
    }

    /// Commits offsets.
    #[napi]
    pub fn commit(&self, id: u32, offsets: Vec<Offset>) {
        self.run(id, move |handle| {
            let offsets: Vec<_> = offsets.iter().map(TopicPartition::from).collect();
            let result = handle.commit(Some(&offsets), Duration::from_secs(30))?;
            match result.iter().find(|p| p.error != ErrCode::NO_ERROR) {
                Some(failed) => Err(KafkaError::from(failed.error)),
                None => Ok(Value::Null),
            }
        });
    }
}

/// A partition with an offset, as JavaScript gives it.
#[napi(object)]
pub struct Offset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset; whole numbers up to 2^53.
    pub offset: f64,
    /// The text that goes with it.
    pub metadata: Option<String>,
}

impl From<&Offset> for TopicPartition {
    fn from(offset: &Offset) -> Self {
        let metadata = offset.metadata.as_deref().map(Into::into);
        Self {
            metadata,
            ..Self::new(
                offset.topic.as_str(),
                offset.partition,
                offset.offset as i64,
            )
        }
    }
}

impl NativeClient {
    /// Runs something on the client's thread.
    pub fn run(
        &self,
        id: u32,
        job: impl FnOnce(&Handle) -> std::result::Result<Value, KafkaError>
        + std::marker::Send
        + 'static,
    ) {
        self.send(id, Command::Run(id, Box::new(job)));
    }

    fn send(&self, id: u32, command: Command) {
        if self.commands.send(command).is_err() {
            self.outlet.done(id, Err(not_connected()));
        }
    }

    fn with_poller(&self, tell: impl FnOnce(&Poller)) {
        if let Some(poller) = &*lock(&self.poller) {
            tell(poller);
        }
    }
}

impl Drop for NativeClient {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Close(0, Duration::ZERO));
        if let Some(poller) = lock(&self.poller).take() {
            poller.stop(0);
        }
    }
}

fn not_connected() -> KafkaError {
    KafkaError::new(ErrCode::STATE, "the client is not connected")
}

struct Worker {
    role: Role,
    config: Config,
    create_topics: bool,
    commands: mpsc::Sender<Command>,
    outlet: Outlet,
    handle: Option<Handle>,
    producer: Option<Producer>,
}

impl Worker {
    fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        loop {
            let command = match inbox.try_recv() {
                Ok(command) => command,
                // Sends that came together share batches; with nothing more to do, none waits.
                Err(mpsc::TryRecvError::Empty) => {
                    if let Some(producer) = &mut self.producer {
                        producer.send_now();
                    }
                    match inbox.recv() {
                        Ok(command) => command,
                        Err(_) => return,
                    }
                }
                Err(mpsc::TryRecvError::Disconnected) => return,
            };
            match command {
                Command::Connect(id) => {
                    let result = self.connect().map(|()| Value::Null);
                    self.outlet.done(id, result);
                }
                Command::Run(id, job) => {
                    let result = match &self.handle {
                        Some(handle) => catch_unwind(AssertUnwindSafe(|| job(handle)))
                            .unwrap_or_else(|_| Err(KafkaError::from(ErrCode::FAIL))),
                        None => Err(not_connected()),
                    };
                    self.outlet.done(id, result);
                }
                Command::Produce(send) => match &mut self.producer {
                    Some(producer) => producer.send(send),
                    None => self.outlet.done(send.id, Err(not_connected())),
                },
                Command::Deliveries(lane) => {
                    if let Some(producer) = &mut self.producer {
                        producer.reports(lane);
                    }
                }
                Command::Close(id, timeout) => {
                    if let Some(producer) = self.producer.take() {
                        producer.close(timeout);
                    }
                    self.handle = None;
                    if id != 0 {
                        self.outlet.done(id, Ok(Value::Null));
                    }
                    return;
                }
            }
        }
    }

    fn connect(&mut self) -> std::result::Result<(), KafkaError> {
        let handle = Handle::new(self.role, self.config.clone())?;
        if self.role == Role::Producer {
            self.producer = Some(Producer::new(
                self.config.clone(),
                self.create_topics,
                self.commands.clone(),
                self.outlet.clone(),
                handle.clone(),
            ));
        }
        self.handle = Some(handle);
        Ok(())
    }
}
