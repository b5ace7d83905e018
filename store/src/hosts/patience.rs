//! How long a host is waited for, and what is said meanwhile.

use std::time::{Duration, Instant};

use super::Wanted;
use crate::error::StoreError;
use crate::layout::Layout;
use crate::lock;
use crate::store::Hosting;
use crate::times::SILENT;

/// The longest time between two looks at a lock that another process has. Waiting for the kernel itself
/// would be a thread that cannot be called back when time is up.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How long somebody waits for another, and what is said about it.
pub(super) struct Patience<'a> {
    layout: &'a Layout,
    begin: Instant,
    looked: Instant,
    wait: Duration,
    /// Since when there is a connection on which nothing is said.
    pub(super) connected: Option<Instant>,
    /// Why it does not let this process in, if it said so.
    pub(super) refused: &'static str,
    told: bool,
    pause: Duration,
}

impl<'a> Patience<'a> {
    pub(super) fn new(layout: &'a Layout, wait: Duration) -> Self {
        let pause = Duration::from_millis(1);
        let now = Instant::now();
        Self { layout, begin: now, looked: now, wait, connected: None, refused: "", told: false, pause }
    }

    /// Says who is waited for, once, when it takes longer; and that it took too long.
    pub(super) fn check(&mut self, manner: &str, wanted: &mut Wanted<'_>) -> Result<(), StoreError> {
        let gap = self.looked.elapsed();
        if gap > SILENT.get() {
            // This process was stopped: that is no time that it waited.
            self.begin += gap;
            self.connected = self.connected.map(|_| Instant::now());
        }
        self.looked = Instant::now();
        let waited = self.begin.elapsed();
        // A host that lives says something at once; one that is busy starting may take a moment, also where nobody is to
        // be waited for.
        let too_long = match self.connected {
            Some(since) => waited >= self.wait && since.elapsed() >= wanted.moment,
            None => waited >= self.wait,
        };
        if !too_long && (self.told || waited < SILENT.get().min(self.wait / 2)) {
            return Ok(());
        }
        let mut owner = format!("{}{manner}", lock::owner(self.layout));
        if manner.is_empty() && !self.refused.is_empty() {
            owner = format!("{owner}, which {}", self.refused);
        }
        if !self.told {
            (wanted.on_wait)(&owner);
            self.told = true;
        }
        if !too_long {
            return Ok(());
        }
        let dir = self.layout.root().to_owned();
        if wanted.hosting == Hosting::Declined && self.connected.is_none() {
            return Err(StoreError::NoHost { dir });
        }
        Err(StoreError::InUse { dir, owner })
    }

    pub(super) fn pause(&mut self) {
        std::thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(all(test, not(feature = "schedules")))]
mod tests {
    use super::*;
    use crate::times::MOMENT;

    /// Whoever said `--wait 1s` waited for five: a host that is stopped was given as long as one that is named.
    #[test]
    fn a_host_that_says_nothing_is_waited_for_no_longer_than_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        let (hosting, go_on) = (Hosting::Willing, &|| true);
        let check = |wait_ms: u64, waited_ms: u64, connected_ms: u64, is_too_long: bool| {
            let on_wait = &mut |_: &str| {};
            let wait = Duration::from_millis(wait_ms);
            let mut wanted = Wanted {
                wait,
                moment: MOMENT.get(),
                owner: "a test",
                hosting,
                on_wait,
                to_read: false,
                go_on,
            };
            let mut patience = Patience::new(&layout, wait);
            let before = |ms| patience.looked.checked_sub(Duration::from_millis(ms)).unwrap();
            (patience.begin, patience.connected) = (before(waited_ms), Some(before(connected_ms)));
            let ended = patience.check("", &mut wanted).is_err();
            assert_eq!(ended, is_too_long, "{wait_ms} {waited_ms} {connected_ms}");
        };
        let moment = u64::try_from(MOMENT.get().as_millis()).unwrap();
        check(3 * moment, 3 * moment, 3 * moment, true);
        check(600 * moment, 3 * moment, 3 * moment, false);
        // One that lives has a moment to say something, also where nobody is to be waited for.
        check(0, moment / 2, moment / 2, false);
        check(0, moment, moment, true);
        check(3 * moment, 3 * moment, moment / 2, false);
    }
}
