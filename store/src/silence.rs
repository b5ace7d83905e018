//! How long a host in another process has said nothing to somebody who asked it: one clock for all requests of a client.
//!
//! It begins with the first request that is not answered at once, and whatever the host says ends it, to whomever it says
//! that. A clock for each request would begin anew with each: a run whose host was stopped waited as often as it asked. Pure:
//! it is told what time it is.

use std::time::{Duration, Instant};

/// What was asked and not answered, and since when.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    unanswered: usize,
    since: Option<Instant>,
    given_up: bool,
}

impl Silence {
    /// A request is sent.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.unanswered += 1;
        self.since.get_or_insert(now);
    }

    /// A request is over, whatever came of it.
    pub(crate) fn over(&mut self) {
        self.unanswered -= 1;
        if self.unanswered == 0 {
            self.since = None;
        }
    }

    /// The host said something, or there is another one, or time went by in which this process could not listen: what is
    /// not answered yet is waited for from now on.
    pub(crate) fn ended(&mut self, now: Instant) {
        self.since = (self.unanswered > 0).then_some(now);
        self.given_up = false;
    }

    /// How long it has lasted.
    pub(crate) fn lasts(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| now.saturating_duration_since(since))
    }

    /// It was waited for long enough: until the host says something, nobody waits for it again.
    pub(crate) fn give_up(&mut self) {
        self.given_up = true;
    }

    /// Whether it was waited for long enough already.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens, a second after each other: `?` is asked, `.` is over, `!` is said by the host, `-` is nothing.
    fn check(happens: &str, lasts_s: Option<u64>) {
        let begin = Instant::now();
        let mut silence = Silence::default();
        let mut now = begin;
        for what in happens.chars() {
            match what {
                '?' => silence.asked(now),
                '.' => silence.over(),
                '!' => silence.ended(now),
                _ => {}
            }
            now += Duration::from_secs(1);
        }
        assert_eq!(silence.lasts(now), lasts_s.map(Duration::from_secs), "{happens}");
    }

    #[test]
    fn it_lasts_from_the_first_question_until_anything_is_said() {
        check("---", None);
        check("?---", Some(4));
        check("?-?-?", Some(5));
        check("?-!.--", None);
        // Somebody else's answer ends it for all, and what is open yet is waited for from then on.
        check("?-?-!.--", Some(4));
        // One that ends without an answer does not: the others wait as long as they did.
        check("?-?-.--", Some(7));
        check("?.?--", Some(3));
    }

    #[test]
    fn what_was_given_up_is_so_until_something_is_said() {
        let mut silence = Silence::default();
        let now = Instant::now();
        silence.asked(now);
        silence.give_up();
        silence.over();
        silence.asked(now);
        assert!(silence.is_given_up());
        silence.ended(now);
        assert!(!silence.is_given_up());
    }
}
