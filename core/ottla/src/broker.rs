//! An embedded broker, held open without a client.

use crate::config::address::{self, Address};
use crate::serve::ServerProperties;
use crate::{Config, ErrCode, KafkaError};
use ottla_broker::{BrokerError, BrokerMetrics, PromoteError, Promotion};
use ottla_driver::{EmbeddedBroker, LockError, OpenError, PromotionError};
use std::path::Path;

/// Keeps an embedded broker open. Handles open the broker that they name by themselves, and it closes with the last of them; hold a
/// `Broker` when it should outlive them: a `memory:` broker between a test's producer and its consumer, or a directory that no other
/// process is to take meanwhile.
///
/// ```
/// let broker = ottla::Broker::open("memory:kept")?;
/// let producer = ottla::Producer::open(broker.address())?;
/// producer.send(ottla::NewRecord::to("numbers").value(b"1"))?;
/// producer.flush(std::time::Duration::from_secs(5))?;
/// drop(producer); // the record is still there
/// let admin = ottla::Admin::new(ottla::Config::new().with("bootstrap.servers", broker.address())?)?;
/// let topics = admin.metadata(Some(&["numbers"]), std::time::Duration::from_secs(5))?.topics;
/// assert_eq!(topics[0].partitions.len(), 1);
/// # Ok::<(), ottla::KafkaError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Broker {
    broker: EmbeddedBroker,
    address: String,
}

impl Broker {
    /// Opens the broker at an address, or joins those who have it open in this process.
    ///
    /// # Errors
    /// As [`Broker::with`].
    pub fn open(address: &str) -> Result<Self, KafkaError> {
        Self::with(&Config::new().with("bootstrap.servers", address)?)
    }

    /// Opens the broker that a configuration names, with the settings that it has.
    ///
    /// # Errors
    /// `_INVALID_ARG` for an address or settings that can't be, `_CONFLICT` if another process has the directory (the message names it),
    /// `_FS` if the directory can't be used.
    pub fn with(config: &Config) -> Result<Self, KafkaError> {
        let (place, settings) = config.broker()?;
        let broker = EmbeddedBroker::open(&place, settings).map_err(open_failed)?;
        let address = address::text_of(broker.place());
        Ok(Self { broker, address })
    }

    /// Opens the broker at an address with the settings of a `server.properties`, in Kafka's names.
    ///
    /// ```
    /// use ottla::{Broker, serve::ServerProperties};
    ///
    /// let properties = ServerProperties::parse([("num.partitions", "3"), ("durability", "os")])?;
    /// let broker = Broker::with_properties("memory:three", &properties)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Broker::with`]; an address with settings of its own is none.
    pub fn with_properties(
        address: &str,
        properties: &ServerProperties,
    ) -> Result<Self, KafkaError> {
        let parsed = Address::parse(address)?;
        if !parsed.settings.is_empty() {
            let message = format!("{address}: settings are given as properties here");
            return Err(KafkaError::new(ErrCode::INVALID_ARG, message));
        }
        let broker = EmbeddedBroker::open(&parsed.place, properties.broker.clone());
        let broker = broker.map_err(open_failed)?;
        let address = address::text_of(broker.place());
        Ok(Self { broker, address })
    }

    /// What handles take as `bootstrap.servers` to reach it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Gives this up and, if nobody else has the broker open, closes it: everything is synced, and the directory has the mark of a clean
    /// stop. Whether nobody else has.
    ///
    /// # Errors
    /// `_FS` if something could not be written: the next opening recovers, as after a crash. Dropping does the same, but can't say so.
    pub fn close(self) -> Result<bool, KafkaError> {
        let closed = self.broker.close();
        closed.map_err(|error| KafkaError::new(ErrCode::FS, error.to_string()))
    }

    /// What the broker measures of itself: records and bytes by partition, groups, what waits. Takes time in proportion to the number of
    /// partitions and groups, and holds up requests for as long.
    pub fn metrics(&self) -> BrokerMetrics {
        self.broker.metrics()
    }

    /// The partitions of whose logs something is damaged: topic, number, bytes, as far as opening or readers came upon it. What is
    /// damaged is never served; consumers see a gap there, as after compaction.
    pub fn damaged_bytes(&self) -> Vec<(String, i32, u64)> {
        self.broker.damaged_bytes()
    }

    pub(crate) fn embedded(&self) -> &EmbeddedBroker {
        &self.broker
    }

    /// Whether both are the same broker.
    pub fn is_same(&self, other: &Self) -> bool {
        self.broker.place() == other.broker.place()
    }
}

/// Prepares the data directory `dir` for a JVM Kafka in KRaft mode, as `ottla promote DIR` does: what `kafka-storage format` writes,
/// with the topics, their settings and the producer ids that are there. Ottla may open the directory again, before and after.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let broker = ottla::Broker::open(&format!("file://{}", dir.display()))?;
/// drop(broker);
/// let promotion = ottla::promote(dir)?;
/// assert_eq!(promotion.promoted, ottla::Promoted::Now);
/// assert!(dir.join("bootstrap.checkpoint").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `_CONFLICT` if somebody has it open (the message names who), `_STATE` if it was not closed cleanly, `_INVALID_ARG` if it is no
/// data directory, `_FS` if it can't be read or written.
pub fn promote(dir: impl AsRef<Path>) -> Result<Promotion, KafkaError> {
    ottla_driver::promote(dir.as_ref()).map_err(|error| {
        let code = match &error {
            PromotionError::Lock(LockError::Owned { .. }) => ErrCode::CONFLICT,
            PromotionError::Promote(_, PromoteError::NotClosedCleanly) => ErrCode::STATE,
            PromotionError::Promote(_, PromoteError::NotADataDirectory) => ErrCode::INVALID_ARG,
            _ => ErrCode::FS,
        };
        KafkaError::new(code, error.to_string())
    })
}

/// Why a broker can't be opened, as an error of the client.
pub(crate) fn open_failed(error: OpenError) -> KafkaError {
    let code = match &error {
        _ if error.is_owned() => ErrCode::CONFLICT,
        OpenError::Broker(
            BrokerError::InvalidConfig(_) | BrokerError::InconsistentClusterId { .. },
        ) => ErrCode::INVALID_ARG,
        OpenError::Thread(_) => ErrCode::CRIT_SYS_RESOURCE,
        _ => ErrCode::FS,
    };
    KafkaError::new(code, error.to_string())
}
