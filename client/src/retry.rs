//! When a call is tried again, and how long after.
//!
//! Only four things are safe to repeat: a call that was never sent, a read that has given nothing yet, an autocommit statement that the
//! server undid because of a conflict, and one with a name, which the server carries out once however often it comes. All else is the
//! caller's decision.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::error::{ClientError, ErrorKind};

/// How often and how fast calls are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first one included; 1: never again.
    pub attempts: u32,
    /// The pause after the first try; it doubles with each try.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts: 6,
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(1),
        }
    }
}

impl RetryPolicy {
    /// No second try.
    pub const NEVER: RetryPolicy = RetryPolicy {
        attempts: 1,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
    };

    /// The pause after try number `attempt` (from 0): half of it fixed, half of it random, so that clients that collided part.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let full = self.first_pause.saturating_mul(1 << attempt.min(16)).min(self.longest_pause);
        let random = RandomState::new().hash_one(attempt) as f64 / u64::MAX as f64;
        full.mul_f64(0.5 + random * 0.5)
    }
}

/// What a call does to the database, as far as repeating it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It only reads.
    Read,
    /// It writes, as a transaction of its own.
    Autocommit,
    /// As [`Effect::Autocommit`], under a name.
    Named,
    /// Neither is known.
    Unknown,
}

impl Effect {
    /// Whether a call with this effect may be repeated after this error.
    pub fn may_repeat(self, error: &ClientError) -> bool {
        match error.kind() {
            ErrorKind::Connection => true,
            ErrorKind::Conflict => self != Effect::Unknown,
            ErrorKind::Unavailable => matches!(self, Effect::Read | Effect::Named),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let policy = RetryPolicy::default();
        for attempt in 0..40 {
            let pause = policy.pause(attempt);
            assert!(pause <= policy.longest_pause);
            assert!(pause >= policy.first_pause / 2);
        }
        assert!(policy.pause(6) > policy.pause(0));
    }

    #[test]
    fn writes_are_repeated_only_when_they_had_no_effect() {
        let error = |kind| ClientError::new(kind, "x");
        for effect in [Effect::Read, Effect::Autocommit, Effect::Named, Effect::Unknown] {
            assert!(effect.may_repeat(&error(ErrorKind::Connection)));
            assert!(!effect.may_repeat(&error(ErrorKind::Constraint)));
            assert!(!effect.may_repeat(&error(ErrorKind::DeadlineExceeded)));
        }
        assert!(Effect::Read.may_repeat(&error(ErrorKind::Unavailable)));
        assert!(!Effect::Autocommit.may_repeat(&error(ErrorKind::Unavailable)));
        assert!(Effect::Named.may_repeat(&error(ErrorKind::Unavailable)));
        assert!(Effect::Autocommit.may_repeat(&error(ErrorKind::Conflict)));
        assert!(!Effect::Unknown.may_repeat(&error(ErrorKind::Conflict)));
    }
}
