//! The locks of those parts of the host whose every order of steps is tried: claims, connections, the gate, the writer.
//!
//! Ordinarily the standard library's. With the feature `schedules`, those of a tester that decides at each of their
//! operations which thread goes on; see `schedules.rs`.

#[cfg(feature = "schedules")]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock};
#[cfg(not(feature = "schedules"))]
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock};
