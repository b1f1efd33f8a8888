//! The restart policy: whether a restart is allowed, and its delay.

use core::time::Duration;
use std::collections::VecDeque;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    Exponential,
    Linear,
    Constant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartOn {
    Always,
    Failure,
}

/// At most `limit` restarts within any `period`, including successful restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub limit: u32,
    pub period: Duration,
}

/// A set of exit codes, 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitCodes([u128; 2]);

impl ExitCodes {
    pub fn contains(&self, code: i32) -> bool {
        u8::try_from(code).is_ok_and(|code| self.0[usize::from(code >> 7)] & (1 << (code & 127)) != 0)
    }
}

impl FromIterator<u8> for ExitCodes {
    fn from_iter<I: IntoIterator<Item = u8>>(codes: I) -> Self {
        let mut set = Self::default();
        for code in codes {
            set.0[usize::from(code >> 7)] |= 1 << (code & 127);
        }
        set
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestartPlan {
    pub max_attempts: u32,
    pub delay: Duration,
    pub backoff: Backoff,
    pub factor: f64,
    pub max_delay: Duration,
    /// The share, 0 to 1, by which a delay is randomly longer or shorter.
    pub jitter: f64,
    pub window: Window,
    pub on: RestartOn,
    /// The time in Running after which the attempts count from 0 again. Zero: at readiness.
    pub reset_after: Duration,
    /// An exit with one of these codes is the end of the restarts.
    pub prevented_by: ExitCodes,
}

impl Default for RestartPlan {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            delay: Duration::from_millis(5_000),
            backoff: Backoff::Exponential,
            factor: 2.0,
            max_delay: Duration::from_millis(60_000),
            jitter: 0.1,
            window: Window { limit: 10, period: Duration::from_millis(300_000) },
            on: RestartOn::Always,
            reset_after: Duration::ZERO,
            prevented_by: ExitCodes::default(),
        }
    }
}

impl RestartPlan {
    /// The delay before restart `attempt` (from 1). `jitter` is uniform in [0, 1).
    pub fn delay_before(&self, attempt: u32, jitter: f64) -> Duration {
        let steps = f64::from(attempt.saturating_sub(1));
        let base = self.delay.as_secs_f64();
        let grown = match self.backoff {
            Backoff::Exponential => base * self.factor.powf(steps),
            Backoff::Linear => base * (1.0 + steps),
            Backoff::Constant => base,
        };
        // A large power is infinity, which `min` caps. A delay of 0 times infinity is NaN, and means no delay.
        let capped = if grown.is_nan() { 0.0 } else { grown.min(self.max_delay.as_secs_f64()) };
        let spread = 1.0 + self.jitter * (2.0 * jitter - 1.0);
        Duration::from_secs_f64((capped * spread).max(0.0))
    }
}

/// The restarts of the last period.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History(VecDeque<Duration>);

impl History {
    /// Counts one more restart, unless the window is full.
    pub fn admit(&mut self, window: Window, now: Duration) -> bool {
        let horizon = now.saturating_sub(window.period);
        while self.0.front().is_some_and(|at| *at < horizon || (*at == horizon && now >= window.period)) {
            self.0.pop_front();
        }
        if self.0.len() >= window.limit as usize {
            return false;
        }
        self.0.push_back(now);
        true
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// SplitMix64. The jitter must differ between daemons, need not be secret, and must be repeatable in tests.
#[derive(Debug, Clone, PartialEq)]
pub struct Jitter(pub u64);

impl Jitter {
    /// Uniform in [0, 1).
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exactly what an f64 holds")]
        let fraction = (z >> 11) as f64;
        fraction / (1u64 << 53) as f64
    }
}
