//! Whether a step is tried again after an attempt failed, and how long that waits. Pure.

use std::time::Duration;

use cas_store::Digest;

use crate::execute::{Cause, Failure};
use crate::solid::{Retries, RetryOn};

/// Whether another attempt follows the one with this number (from 1), which failed so.
pub(super) fn again(retries: &Retries, attempt: u32, failure: &Failure) -> bool {
    // A changed file makes the plan itself wrong: another attempt would be of something else.
    if attempt > retries.times || failure.cause == Cause::SourceChanged {
        return false;
    }
    let matches = |on: &RetryOn| match (on, failure.cause) {
        (RetryOn::Exit(wanted), Cause::Exit(code)) => *wanted == code,
        (RetryOn::Signal, Cause::Signal(_)) | (RetryOn::Timeout, Cause::Timeout) => true,
        (RetryOn::Exit(_) | RetryOn::Signal | RetryOn::Timeout, _) => false,
    };
    retries.on.is_empty() || retries.on.iter().any(matches)
}

/// How long the next attempt waits after the one with this number: twice as long each time, up to the most, and by
/// some part more or less, so that many that failed together do not come back together. `seed` says whose it is.
pub(super) fn pause(retries: &Retries, attempt: u32, seed: &[u8]) -> Duration {
    let doubled = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let wait = retries.back_off.saturating_mul(doubled).min(retries.max);
    let drawn = Digest::of(&[seed, &attempt.to_le_bytes()[..]].concat());
    let drawn = drawn.as_bytes().first_chunk::<4>().copied().unwrap_or_default();
    // From one end of the part to the other, in millionths.
    let part = u64::from(retries.jitter.min(100)) * 10_000;
    let factor = 1_000_000 - part + u64::from(u32::from_le_bytes(drawn)) * 2 * part / u64::from(u32::MAX);
    let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    let jittered = u128::from(wait_us) * u128::from(factor) / 1_000_000;
    Duration::from_micros(u64::try_from(jittered).unwrap_or(u64::MAX)).min(retries.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(cause: Cause) -> Failure {
        Failure { cause, message: String::new(), hint: None }
    }

    #[test]
    fn only_what_is_named_is_tried_again_and_only_so_often() {
        let any = Retries { times: 2, ..Retries::default() };
        let checks: Vec<bool> =
            (1..4).map(|attempt| again(&any, attempt, &failed(Cause::MissingOutput))).collect();
        assert_eq!(checks, [true, true, false]);
        assert!(!again(&any, 1, &failed(Cause::SourceChanged)));
        let some = Retries {
            times: 9,
            on: vec![RetryOn::Exit(75), RetryOn::Timeout, RetryOn::Signal],
            ..Retries::default()
        };
        let causes = [
            (Cause::Exit(75), true),
            (Cause::Exit(1), false),
            (Cause::Timeout, true),
            (Cause::Signal(9), true),
            (Cause::MissingOutput, false),
        ];
        for (cause, expected) in causes {
            assert_eq!(again(&some, 1, &failed(cause)), expected, "{cause:?}");
        }
    }

    #[test]
    fn each_wait_is_twice_the_one_before_up_to_the_most() {
        let retries = Retries {
            times: 6,
            back_off: Duration::from_secs(1),
            max: Duration::from_secs(10),
            jitter: 0,
            ..Retries::default()
        };
        let waits: Vec<u64> = (1..=6).map(|attempt| pause(&retries, attempt, b"x").as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(pause(&retries, u32::MAX, b"x"), Duration::from_secs(10));
    }

    #[test]
    fn waits_differ_from_step_to_step_within_the_part_that_was_given() {
        let retries = Retries {
            times: 1,
            back_off: Duration::from_secs(10),
            max: Duration::from_secs(100),
            jitter: 20,
            ..Retries::default()
        };
        let waits: Vec<Duration> = (0..100_u32).map(|n| pause(&retries, 1, &n.to_le_bytes())).collect();
        let [least, most] = [8, 12].map(Duration::from_secs);
        assert!(waits.iter().all(|wait| (least..=most).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait < Duration::from_secs(9)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait > Duration::from_secs(11)), "{waits:?}");
        // The same step waits as long again: nothing is drawn that nobody can repeat.
        assert_eq!(waits[7], pause(&retries, 1, &7_u32.to_le_bytes()));
    }
}
