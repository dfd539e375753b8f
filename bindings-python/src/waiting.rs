//! Calls that wait: without the interpreter's lock, and with an eye on signals.

use crate::error::raise;
use ottla::{ErrCode, Handle, KafkaError};
use pyo3::{exceptions::PyValueError, prelude::*};
use std::{cell::RefCell, sync::Arc, time::Duration};

thread_local! {
    /// What ended the call that waits in this thread: a signal's exception (`KeyboardInterrupt`) or one from a callback.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Has waiting calls look for signals, and end when an exception waits to be raised.
pub fn watch_signals(handle: &Handle) {
    handle.set_interrupt_check(Some(Arc::new(|| {
        if is_raised() {
            return true;
        }
        // None: the interpreter is being shut down.
        match Python::try_attach(|py| py.check_signals()) {
            Some(Ok(())) => false,
            Some(Err(exception)) => {
                raise_later(exception);
                true
            }
            None => true,
        }
    })));
}

/// The waiting call of this thread is to end with this exception; the first one counts.
pub fn raise_later(exception: PyErr) {
    RAISED.with_borrow_mut(|raised| {
        raised.get_or_insert(exception);
    });
}

/// Whether an exception waits.
pub fn is_raised() -> bool {
    RAISED.with_borrow(Option::is_some)
}

/// Raises the exception that waits, if any.
pub fn raise_now() -> PyResult<()> {
    match RAISED.take() {
        Some(exception) => Err(exception),
        None => Ok(()),
    }
}

/// Runs something that may wait.
pub fn wait<T: Send>(
    py: Python<'_>,
    call: impl FnOnce() -> Result<T, KafkaError> + Send,
) -> PyResult<T> {
    let result = py.detach(call);
    raise_now()?;
    result.map_err(raise)
}

/// What using a client of the parent process raises.
pub fn forked() -> PyErr {
    let text = "this client belongs to the parent process; make a new one after fork()";
    raise(KafkaError::new(ErrCode::STATE, text))
}

/// A timeout in seconds; `None` and negative numbers are for ever.
pub fn duration(seconds: Option<f64>) -> PyResult<Duration> {
    match seconds {
        None => Ok(Duration::MAX),
        Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err("timeout is not a number")),
        Some(seconds) if seconds < 0.0 => Ok(Duration::MAX),
        Some(seconds) => Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
    }
}
