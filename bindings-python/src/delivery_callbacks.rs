//! The callbacks of records that are on their way. A record carries a number (its opaque); the callable is kept here, once for all
//! records that share it.

use pyo3::prelude::*;
use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// The callbacks of one producer.
#[derive(Default)]
pub struct DeliveryCallbacks {
    places: Mutex<Places>,
    records: AtomicUsize,
}

#[derive(Default)]
struct Places {
    places: Vec<Place>,
    free: Vec<usize>,
    by_address: HashMap<usize, usize>,
    /// The place that was used last: most programs have one callback.
    last: usize,
}

#[derive(Default)]
struct Place {
    callback: Option<Py<PyAny>>,
    records: usize,
}

impl DeliveryCallbacks {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no record on its way has a callback.
    pub fn is_empty(&self) -> bool {
        self.records.load(Relaxed) == 0
    }

    /// Keeps a callback for so many records; returns their opaque.
    #[inline]
    pub fn keep(&self, callback: &Bound<'_, PyAny>, records: usize) -> usize {
        let mut places = self.places();
        let index = places.find(callback);
        places.places[index].records += records;
        places.last = index;
        drop(places);
        self.records.fetch_add(records, Relaxed);
        index + 1
    }

    /// The callback of an opaque; none for 0.
    pub fn get(&self, py: Python<'_>, opaque: usize) -> Option<Py<PyAny>> {
        let index = opaque.checked_sub(1)?;
        let places = self.places();
        Some(places.places.get(index)?.callback.as_ref()?.clone_ref(py))
    }

    /// So many of its records need the callback no more.
    pub fn release(&self, opaque: usize, records: usize) {
        let Some(index) = opaque.checked_sub(1) else {
            return;
        };
        self.records.fetch_sub(records, Relaxed);
        let mut places = self.places();
        let unused = places.release(index, records);
        drop(places);
        drop(unused); // may run Python code, which may produce
    }
}

impl Places {
    fn find(&mut self, callback: &Bound<'_, PyAny>) -> usize {
        let is_at = |place: &Place| {
            let kept = place.callback.as_ref();
            kept.is_some_and(|kept| kept.is(callback))
        };
        if self.places.get(self.last).is_some_and(is_at) {
            return self.last;
        }
        let address = callback.as_ptr() as usize;
        if let Some(&index) = self.by_address.get(&address) {
            return index;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() - 1
        });
        self.places[index].callback = Some(callback.clone().unbind());
        self.by_address.insert(address, index);
        index
    }

    fn release(&mut self, index: usize, records: usize) -> Option<Py<PyAny>> {
        let place = self.places.get_mut(index)?;
        place.records = place.records.saturating_sub(records);
        if place.records > 0 {
            return None;
        }
        let unused = place.callback.take()?;
        self.by_address.remove(&(unused.as_ptr() as usize));
        self.free.push(index);
        Some(unused)
    }
}
