//! The calls of each method that are under way, over the whole process and over reloads.

use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

use super::Refused;
use super::gradient::Gradient;
use crate::config::admission::Admission;

/// The loads of all methods that have a bound.
#[derive(Debug, Default)]
pub struct Loads(Mutex<HashMap<Arc<str>, Arc<Load>>>);

/// The calls of one method.
//
// Alone in its cache lines: its neighbours belong to other methods.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Load {
    open: AtomicU32,
    adaptive: Mutex<Option<Gradient>>,
}

/// A load as one worker knows it, by a count of references that is the worker's own: that of the [`Arc`] would be written
/// by all of them.
#[derive(Debug)]
pub struct LoadView(Arc<Load>);

/// A call's place among those of its method. Dropped, it is free.
#[derive(Debug)]
pub struct Permit {
    load: Rc<LoadView>,
    /// Whether the adaptive limit wants to know how long it takes.
    measured: bool,
}

/// How a call ended, as far as capacity is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The service answered it, well or not, and took so long.
    Answered(Duration),
    /// The service had no capacity for it, or took all the time that the method has.
    Dropped,
    /// Something else, which says nothing.
    Silent,
}

impl Loads {
    /// The load of a method. Locks and allocates: call it when a snapshot is prepared.
    pub fn get(&self, method: &Arc<str>) -> Rc<LoadView> {
        Rc::new(LoadView(Arc::clone(lock(&self.0).entry(Arc::clone(method)).or_default())))
    }

    /// Method, calls under way, and the adaptive limit where there is one.
    pub fn list(&self) -> Vec<(Arc<str>, u32, Option<u32>)> {
        let loads = lock(&self.0);
        let told = loads.iter().map(|(method, load)| {
            let limit = lock(&load.adaptive).as_ref().map(Gradient::limit);
            (Arc::clone(method), load.open.load(Ordering::Relaxed), limit)
        });
        told.collect()
    }
}

impl LoadView {
    /// Takes a call on; `measured` if how long it takes says how busy the service is.
    ///
    /// # Errors
    /// The bound that it would exceed.
    pub fn admit(self: &Rc<Self>, bounds: Admission, measured: bool) -> Result<Permit, Refused> {
        let adaptive = bounds.adaptive.map(|bounds| {
            let mut adaptive = lock(&self.0.adaptive);
            let gradient = adaptive.get_or_insert_with(|| Gradient::new(bounds));
            gradient.set_bounds(bounds);
            gradient.limit()
        });
        let before = self.0.open.fetch_add(1, Ordering::Relaxed);
        // Gives the place back when it is refused.
        let permit = Permit { load: Rc::clone(self), measured: measured && adaptive.is_some() };
        match (bounds.max_concurrent, adaptive) {
            (Some(most), _) if before >= most => Err(Refused::Concurrency),
            (_, Some(most)) if before >= most => Err(Refused::Adaptive),
            (_, _) => Ok(permit),
        }
    }
}

impl Permit {
    /// The call is over.
    pub fn end(self, end: End) {
        if !self.measured || end == End::Silent {
            return;
        }
        let open = self.load.0.open.load(Ordering::Relaxed);
        if let Some(gradient) = &mut *lock(&self.load.0.adaptive) {
            match end {
                End::Answered(took) => gradient.sample(took.as_secs_f64(), open),
                End::Dropped => gradient.dropped(),
                End::Silent => {}
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.load.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::admission::Adaptive;

    #[test]
    fn places_are_given_back() {
        let load = Loads::default().get(&"a.B/C".into());
        let bounds = Admission { max_concurrent: Some(2), ..Admission::default() };
        let admit = || load.admit(bounds, true);

        let first = admit().expect("none is taken");
        let _second = admit().expect("one is taken");
        assert_eq!(admit().expect_err("both are taken"), Refused::Concurrency);
        drop(first);
        assert!(admit().is_ok());
    }

    #[test]
    fn slow_calls_make_the_adaptive_limit_shrink() {
        let loads = Loads::default();
        let load = loads.get(&"a.B/C".into());
        let bounds = Admission { adaptive: Some(Adaptive { min: 2, max: 20 }), ..Admission::default() };
        let turn = |calls: usize, end: End| {
            let permits: Vec<_> = (0..calls).filter_map(|_| load.admit(bounds, true).ok()).collect();
            let taken = permits.len();
            permits.into_iter().for_each(|permit| permit.end(end));
            taken
        };

        assert_eq!(turn(100, End::Answered(Duration::from_secs(1))), 20);
        let dropped: usize = (0..50).map(|_| turn(100, End::Dropped)).sum();
        assert!(dropped > 100, "{dropped}");

        assert_eq!(turn(100, End::Silent), 2);
        assert_eq!(loads.list(), [("a.B/C".into(), 0, Some(2))]);
    }
}
