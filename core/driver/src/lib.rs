//! The only I/O in the core: files, directory locks, the clock, and the threads that drive the machines.
//!
//! * [`FileStorage`] is `ottla_log`'s storage on real files.
//! * [`EmbeddedBroker`] is a broker that the handles of this process share, with one thread for timers and syncs.
//! * [`Handle`] is a client on such a broker. The calling thread drives the machines of both: a request goes straight into the
//!   broker and its answer straight back, without a thread in between. One background thread a handle does what is due while
//!   nobody calls. `docs/internals/driver.md` has the whole story.

mod clock;
mod connection;
mod directory_lock;
mod embedded;
mod files;
mod fork;
mod handle;
mod mailbox;
mod network_files;
mod promotion;
mod serve;

pub use clock::now;
pub use directory_lock::{DirectoryLock, LockError};
pub use embedded::{EmbeddedBroker, OpenError, Place};
pub use files::{FileStorage, FileStorageOptions};
pub use fork::is_forked_since;
pub use handle::{EventSink, Handle};
pub use promotion::{PromotionError, promote};
pub use serve::{
    ApiCounters, Level, Listener, ServeError, Server, ServerConfig, ServerCounters, ServerLog,
};
#[doc(hidden)]
pub use serve::{Heard, rehearse};
