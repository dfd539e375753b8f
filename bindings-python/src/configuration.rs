//! Configuration dicts: properties by name, and callbacks under theirs.

use crate::{arguments::callable, error::refused, events::EventCallbacks};
use ottla::{Config, LogLine};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBool, PyDict, PyString},
};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// A configuration dict, taken apart.
pub struct Configuration {
    /// The properties.
    pub config: Config,
    /// What every client can call.
    pub events: EventCallbacks,
    /// `on_delivery`: for records that have no callback of their own.
    pub on_delivery: Option<Py<PyAny>>,
    /// `on_commit`.
    pub on_commit: Option<Py<PyAny>>,
}

impl Configuration {
    /// Takes a dict, keyword arguments, or both.
    pub fn new(
        config: Option<&Bound<'_, PyAny>>,
        more: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut taken = Self {
            config: Config::new(),
            events: EventCallbacks::default(),
            on_delivery: None,
            on_commit: None,
        };
        match config {
            None if more.is_some_and(|more| !more.is_empty()) => {}
            None => return Err(PyTypeError::new_err("expected configuration dict")),
            Some(config) => match config.cast::<PyDict>() {
                Ok(config) => taken.take_all(config)?,
                Err(_) => return Err(PyTypeError::new_err("expected configuration dict")),
            },
        }
        if let Some(more) = more {
            taken.take_all(more)?;
        }
        if taken.events.logger.is_some() {
            // Log lines come while locks are held; Python may only be called from poll().
            taken.config.set("log.queue", "true").map_err(refused)?;
        } else {
            taken.config.set_logger(Some(Arc::new(to_stderr)));
        }
        taken
            .config
            .set_offset_commit_events(taken.on_commit.is_some());
        taken
            .config
            .set_throttle_events(taken.events.throttle.is_some());
        Ok(taken)
    }

    fn take_all(&mut self, properties: &Bound<'_, PyDict>) -> PyResult<()> {
        for (name, value) in properties.iter() {
            let name = name.str()?;
            self.take(name.to_str()?, &value)?;
        }
        Ok(())
    }

    fn take(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let function = || {
            callable(name, Some(value)).map_err(|_| {
                let text = format!("expected {name} property as a callable function");
                PyTypeError::new_err(text)
            })
        };
        match name {
            "error_cb" => self.events.error = function()?,
            "stats_cb" => self.events.statistics = function()?,
            "throttle_cb" => self.events.throttle = function()?,
            "logger" => {
                let logger = Some(value.clone().unbind());
                self.events.logger = logger.filter(|_| !value.is_none());
            }
            "on_delivery" | "dr_cb" => self.on_delivery = function()?,
            "on_commit" | "offset_commit_cb" => self.on_commit = function()?,
            "default.topic.config" => match value.cast::<PyDict>() {
                Ok(topic) => self.take_all(topic)?,
                Err(_) => return Err(PyTypeError::new_err("default.topic.config must be a dict")),
            },
            name => self.set(name, value)?,
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let result = if let Ok(text) = value.cast::<PyString>() {
            self.config.set(name, text.to_str()?)
        } else if let Ok(on) = value.cast::<PyBool>() {
            self.config
                .set(name, if on.is_true() { "true" } else { "false" })
        } else if value.is_none() {
            // The default stays; a name that doesn't exist is still an error.
            match self.config.get(name) {
                Err(unknown @ ottla::ConfigError::Unknown(_)) => Err(unknown),
                _ => Ok(()),
            }
        } else {
            self.config.set(name, value.str()?.to_str()?)
        };
        result.map_err(refused)
    }
}

/// Where log lines go without a `logger`, in librdkafka's form.
fn to_stderr(line: &LogLine) {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    eprintln!(
        "%{}|{:.3}|{}|ottla| {}",
        line.level,
        since_epoch.as_secs_f64(),
        line.facility,
        line.message
    );
}
