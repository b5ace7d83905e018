//! How long processes wait for each other.
//!
//! Together, because they only make sense together: who is to be heard of every 5 s is silent after 30. With the cargo
//! feature `crash-points`, `CAS_HURRY=20` makes each of them so many times shorter, so that a test sees what comes
//! after them.

use std::time::Duration;

/// How often a process tells the host that it lives.
pub(crate) const RENEW: Time = Time::seconds(5);

/// A process that the host has not heard of for so long loses what it claims.
pub(crate) const SILENCE: Time = Time::seconds(30);

/// A host that did not answer for so much longer than [`RENEW`] is named to the user.
pub(crate) const SILENT: Time = Time::seconds(5);

/// A host that lives greets whoever connects within it.
pub(crate) const MOMENT: Time = Time::seconds(1);

/// How often the host looks who is silent or gone.
pub(crate) const LOOK: Time = Time::seconds(1);

/// A look that comes so much too late says that the host was stopped itself, and heard nobody meanwhile.
pub(crate) const STOPPED: Time = Time::seconds(5);

/// How long a process that has given the lock up may take to end, and how long a new host may take to come.
pub(crate) const LETTING_GO: Time = Time::seconds(10);

/// One of these.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time(Duration);

impl Time {
    const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// How long it is.
    #[cfg(not(feature = "crash-points"))]
    #[inline(always)]
    pub(crate) fn get(self) -> Duration {
        self.0
    }

    /// How long it is.
    #[cfg(feature = "crash-points")]
    pub(crate) fn get(self) -> Duration {
        static HURRY: std::sync::OnceLock<u32> = std::sync::OnceLock::new();

        let hurry = || std::env::var("CAS_HURRY").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        self.0 / *HURRY.get_or_init(hurry)
    }
}
