//! When to send a request again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::response::Response;
use crate::{Error, Result};

/// The limits of retries after passing faults: a broken connection, 408, 429, or a server error.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts at most, the first one included.
    pub attempts: u32,
    /// Pause after the first failure; each further one is twice as long, with jitter.
    pub first_delay: Duration,
    /// The longest pause, also where a registry asks for a longer one.
    pub longest_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 7,
            first_delay: Duration::from_millis(50),
            longest_delay: Duration::from_secs(60),
        }
    }
}

/// A transfer that goes on after a break begins to count anew, but not for ever.
const MOST_BREAKS: u32 = 100;

/// The failures of one request or transfer so far.
pub(crate) struct Retry {
    policy: RetryPolicy,
    failed: u32,
    breaks: u32,
}

impl Retry {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failed: 0, breaks: 0 }
    }

    /// Bytes came through: failures before them no longer count.
    pub(crate) fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next attempt after an error. Silence counts as much as half of all
    /// attempts, since waiting for it took long already; wrong bytes as much as a third, since they
    /// seldom get better and may be large.
    pub(crate) async fn pause_after(&mut self, error: &Error) -> bool {
        let share = match error {
            Error::Silent { .. } => self.policy.attempts.div_ceil(2),
            error if error.is_garbled() => self.policy.attempts.div_ceil(3),
            _ => 1,
        };
        self.failed += share.saturating_sub(1);
        self.pause(None).await
    }

    /// Waits before the next attempt, as long as the server `asked` if it did; false if there is
    /// no further one.
    pub(crate) async fn pause(&mut self, asked: Option<Duration>) -> bool {
        self.failed += 1;
        self.breaks += 1;
        if self.failed >= self.policy.attempts || self.breaks > MOST_BREAKS {
            return false;
        }
        tokio::time::sleep(self.delay(asked)).await;
        true
    }

    fn delay(&self, asked: Option<Duration>) -> Duration {
        let doubled = self.policy.first_delay.saturating_mul(1 << (self.failed - 1).min(16));
        let jittered = doubled.mul_f64(0.5 + jitter());
        asked.unwrap_or(jittered).min(self.policy.longest_delay)
    }
}

/// A number from 0 to 1, random enough that parallel transfers do not return all at once.
fn jitter() -> f64 {
    let random = RandomState::new().hash_one(0) >> 32;
    random as f64 / f64::from(u32::MAX)
}

/// True if a status is worth a retry.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    let unimplemented =
        matches!(status, StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        || (status.is_server_error() && !unimplemented)
}

/// The delay in `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3).
pub(crate) fn asked_delay(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let wait = date.duration_since(jiff::Timestamp::now());
    Some(wait.try_into().unwrap_or(Duration::ZERO))
}

/// Asks and reads, again and again while faults pass. The last answer is read, whatever it is.
pub(crate) async fn insist<T, A, R>(
    policy: RetryPolicy,
    ask: impl Fn() -> A,
    read: impl Fn(Response) -> R,
) -> Result<T>
where
    A: Future<Output = Result<Response>>,
    R: Future<Output = Result<T>>,
{
    let mut retry = Retry::new(policy);
    loop {
        let error = match ask().await {
            Ok(answer) if is_passing(answer.status()) => {
                if !retry.pause(asked_delay(answer.headers())).await {
                    return read(answer).await;
                }
                answer.drain().await;
                continue;
            }
            Ok(answer) => match read(answer).await {
                Err(error) if error.is_passing() || error.is_garbled() => error,
                done => return done,
            },
            Err(error) if error.is_passing() => error,
            Err(error) => return Err(error),
        };
        if !retry.pause_after(&error).await {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_are_bounded() {
        let policy = RetryPolicy {
            attempts: 9,
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(1),
        };
        let at = |failed, asked| Retry { policy, failed, breaks: 0 }.delay(asked);
        assert!((Duration::from_millis(50)..=Duration::from_millis(150)).contains(&at(1, None)));
        assert!((Duration::from_millis(200)..=Duration::from_millis(600)).contains(&at(3, None)));
        assert_eq!(at(12, None), Duration::from_secs(1));
        assert_eq!(at(1, Some(Duration::from_secs(3600))), Duration::from_secs(1));
        assert_eq!(at(5, Some(Duration::ZERO)), Duration::ZERO);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let asked =
            |text: &str| asked_delay(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(asked("Fri, 01 Jan 2100 00:00:00 GMT") > Some(Duration::from_secs(3600)));
        assert_eq!(asked("soon"), None);
    }

    #[test]
    fn only_passing_faults_are_tried_again() {
        for (status, passing) in
            [(429, true), (408, true), (500, true), (503, true), (501, false), (404, false)]
        {
            assert_eq!(is_passing(StatusCode::from_u16(status).unwrap()), passing, "{status}");
        }
    }
}
