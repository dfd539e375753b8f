//! Events that every kind of client has: errors, throttling, statistics, log lines.

use crate::error::KafkaError;
use ottla::{Event, LogLine};
use pyo3::prelude::*;

/// What a program wants to be told.
#[derive(Default)]
pub struct EventCallbacks {
    /// `error_cb(KafkaError)`
    pub error: Option<Py<PyAny>>,
    /// `throttle_cb(ThrottleEvent)`
    pub throttle: Option<Py<PyAny>>,
    /// `stats_cb(json)`
    pub statistics: Option<Py<PyAny>>,
    /// A `logging.Logger`.
    pub logger: Option<Py<PyAny>>,
}

/// Python's level of a syslog severity.
fn level_of(severity: u8) -> u8 {
    match severity {
        0..=2 => 50,
        3 => 40,
        4 => 30,
        5 | 6 => 20,
        _ => 10,
    }
}

impl EventCallbacks {
    /// Calls what the event is for.
    pub fn serve(&self, py: Python<'_>, handle_name: &str, event: Event) -> PyResult<()> {
        match event {
            Event::Error(error) => match &self.error {
                Some(callback) => callback.call1(py, (KafkaError::from(error),)).map(drop),
                None => Ok(()),
            },
            Event::Throttle(throttle) => match &self.throttle {
                Some(callback) => {
                    let seconds = f64::from(throttle.throttle_ms) / 1000.0;
                    let event = py
                        .import("ottla._model")?
                        .getattr("ThrottleEvent")?
                        .call1((throttle.broker_name, throttle.broker_id, seconds))?;
                    callback.call1(py, (event,)).map(drop)
                }
                None => Ok(()),
            },
            Event::Statistics(text) => match &self.statistics {
                Some(callback) => callback.call1(py, (text,)).map(drop),
                None => Ok(()),
            },
            Event::Log(line) => self.log(py, handle_name, &line),
            _ => Ok(()),
        }
    }

    fn log(&self, py: Python<'_>, handle_name: &str, line: &LogLine) -> PyResult<()> {
        let Some(logger) = &self.logger else {
            return Ok(());
        };
        let arguments = (
            level_of(line.level),
            "%s [%s] %s",
            line.facility,
            handle_name,
            &line.message,
        );
        logger.call_method1(py, "log", arguments).map(drop)
    }
}
