//! The process that is killed: producers and a consumer group on a directory, through the façade.

use crate::{
    history::Event,
    mark::{IDEMPOTENT, Mark, WRITERS},
    options::Options,
    random::Random,
};
use ottla::{Admin, Config, Consumer, KafkaError, NewRecord, NewTopic, Producer, TopicPartition};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The topic that is written to.
pub const TOPIC: &str = "torture";
/// Its partitions.
pub const PARTITIONS: i32 = 3;
/// The group that commits.
pub const GROUP: &str = "readers";
/// For everything that has to happen at once.
const WAIT: Duration = Duration::from_secs(20);
/// A writer that nobody kills ends by itself.
const LONGEST: Duration = Duration::from_secs(10);
/// How many records may be under way per producer.
const UNDER_WAY: u32 = 300;

/// Writes until it is killed. Every event is told before or after it happens, so that what was told holds.
pub fn main(options: &Options) -> Result<(), String> {
    let failed = |error: KafkaError| error.to_string();
    let config = Config::new()
        .with("bootstrap.servers", &options.address)
        .map_err(|error| error.to_string())?;
    create_topic(&config).map_err(failed)?;
    let until = Instant::now() + LONGEST;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WRITERS)
            .map(|n| {
                let config = config.clone();
                scope.spawn(move || produce(config, options, n, until))
            })
            .collect();
        let consumer = scope.spawn(|| consume(config.clone(), until));
        threads
            .into_iter()
            .chain([consumer])
            .try_for_each(|thread| match thread.join() {
                Ok(result) => result.map_err(failed),
                Err(_) => Err("a thread panicked".into()),
            })
    })
}

fn create_topic(config: &Config) -> Result<(), KafkaError> {
    let topic = NewTopic {
        name: TOPIC.into(),
        num_partitions: PARTITIONS,
        replication_factor: -1,
        // Small, so that segments are closed, indexed and snapshot all the time.
        config: vec![
            ("segment.bytes".into(), "32768".into()),
            ("index.interval.bytes".into(), "512".into()),
        ],
        replica_assignments: Vec::new(),
    };
    let admin = Admin::new(config.clone())?;
    for result in admin.create_topics(&[topic], false, WAIT)? {
        match result {
            Ok(()) => Event::Created(TOPIC.into()).tell(),
            Err(error) if error.code == ottla::ErrCode::TOPIC_ALREADY_EXISTS => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn produce(config: Config, options: &Options, n: u32, until: Instant) -> Result<(), KafkaError> {
    let writer = options.run * WRITERS + n;
    let mut random = Random::new(options.seed ^ u64::from(writer) << 32);
    let idempotent = n < IDEMPOTENT;
    let config = config
        .with("enable.idempotence", &idempotent.to_string())?
        .with("linger.ms", ["0", "1", "5", "20"][n as usize % 4])?
        .with("compression.type", ["none", "lz4"][n as usize / 2 % 2])?;
    let producer = Producer::new(config)?;
    let done = Arc::new(AtomicU32::new(0));
    let (counted, lie) = (done.clone(), options.lie);
    producer.on_report(move |report, result| {
        counted.fetch_add(1, Relaxed);
        let (Ok(()), Some(mark)) = (result, report.value.and_then(Mark::of)) else {
            return;
        };
        if !lie {
            let partition = partition_of(mark);
            Event::Acknowledged(mark, (TOPIC.into(), partition), report.offset).tell();
        }
    });
    let mut count = 0;
    while Instant::now() < until {
        for _ in 0..1 + random.below(20) {
            let mark = Mark { writer, count };
            count += 1;
            let partition = partition_of(mark);
            Event::Sent(mark).tell();
            if options.lie {
                // The control: a log that acknowledges what it hasn't written.
                Event::Acknowledged(mark, (TOPIC.into(), partition), -1).tell();
            }
            let key = writer.to_be_bytes();
            producer.send(
                NewRecord::to(TOPIC)
                    .partition(partition)
                    .key(&key)
                    .value(&mark.value()),
            )?;
        }
        match random.below(4) {
            0 => {
                // Records that failed were not acknowledged: nothing is promised about them.
                let _ = producer.flush(WAIT);
            }
            1 => std::thread::sleep(Duration::from_millis(random.below(5))),
            _ => producer.poll(Duration::ZERO),
        }
        while count - done.load(Relaxed) > UNDER_WAY && Instant::now() < until {
            producer.poll(Duration::from_millis(10));
        }
    }
    Ok(())
}

fn partition_of(mark: Mark) -> i32 {
    (mark.count / 3 % PARTITIONS as u32) as i32
}

fn consume(config: Config, until: Instant) -> Result<(), KafkaError> {
    let config = config
        .with("group.id", GROUP)?
        // A static member: the one before was killed and can't leave the group.
        .with("group.instance.id", "one")?
        .with("session.timeout.ms", "6000")?
        .with("enable.auto.commit", "false")?
        .with("auto.offset.reset", "earliest")?;
    let consumer = Consumer::new(config)?;
    consumer.subscribe(&[TOPIC])?;
    while Instant::now() < until {
        // Errors are of passing interest: storage that is being taken away has many.
        let Ok(Some(mut batch)) = consumer.next_batch(Duration::from_millis(100)) else {
            continue;
        };
        let part = (batch.topic().to_string(), batch.partition());
        let mut next = None;
        while let Some(record) = batch.next() {
            match record {
                Ok(record) => {
                    next = Some(record.offset + 1);
                    match record.value.and_then(Mark::of) {
                        Some(mark) => Event::Read(mark, part.clone(), record.offset).tell(),
                        None => bad(&part, record.offset, "a damaged value"),
                    }
                }
                Err((offset, error)) => bad(&part, offset, &error.to_string()),
            }
        }
        let Some(next) = next else { continue };
        let offsets = [TopicPartition::new(part.0.as_str(), part.1, next)];
        Event::Committing(part.clone(), next).tell();
        let committed = consumer.handle().commit(Some(&offsets), WAIT);
        if committed.is_ok_and(|all| all.iter().all(|one| one.error == ottla::ErrCode::NO_ERROR)) {
            Event::Committed(part, next).tell();
        }
    }
    Ok(())
}

fn bad(part: &(String, i32), offset: i64, why: &str) {
    Event::Bad(part.clone(), offset, why.into()).tell();
}
