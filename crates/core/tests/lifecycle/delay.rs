//! `restart.delay`, `backoff`, `factor`, `maxDelay`, `jitter`: the delay before a restart.

use ally_core::lifecycle::{Backoff, RestartOn, RestartPlan, Window};
use proptest::prelude::{any, prop_assert, proptest};
use std::time::Duration;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn delays(plan: RestartPlan) -> [u128; 5] {
    [1, 2, 3, 4, 5].map(|attempt| plan.delay_before(attempt, 0.5).as_millis())
}

fn steady(backoff: Backoff) -> RestartPlan {
    RestartPlan { delay: ms(1_000), backoff, factor: 3.0, max_delay: ms(20_000), jitter: 0.0, ..RestartPlan::default() }
}

#[test]
fn restart_delay_grows_by_backoff_and_factor_up_to_max_delay() {
    assert_eq!(delays(steady(Backoff::Exponential)), [1_000, 3_000, 9_000, 20_000, 20_000]);
    assert_eq!(delays(steady(Backoff::Linear)), [1_000, 2_000, 3_000, 4_000, 5_000]);
    assert_eq!(delays(steady(Backoff::Constant)), [1_000; 5]);
    assert_eq!(delays(RestartPlan { max_delay: ms(500), ..steady(Backoff::Constant) }), [500; 5]);
}

#[test]
fn restart_defaults_are_those_of_the_contract() {
    let plan = RestartPlan::default();
    assert_eq!(delays(plan), [5_000, 10_000, 20_000, 40_000, 60_000]);
    assert_eq!((plan.max_attempts, plan.on, plan.jitter), (3, RestartOn::Always, 0.1));
    assert_eq!(plan.window, Window { limit: 10, period: ms(300_000) });
}

#[test]
fn restart_jitter_shortens_or_lengthens_the_delay_by_at_most_its_share() {
    let plan = RestartPlan { jitter: 0.25, ..steady(Backoff::Constant) };
    assert_eq!(plan.delay_before(1, 0.0), ms(750));
    assert_eq!(plan.delay_before(1, 0.5), ms(1_000));
    assert_eq!(plan.delay_before(1, 1.0), ms(1_250));
    assert_eq!(RestartPlan { jitter: 1.0, ..plan }.delay_before(1, 0.0), Duration::ZERO);
}

#[test]
fn restart_delay_of_infinite_or_nan_numbers_stays_within_bounds() {
    let huge = RestartPlan { factor: 1e6, ..steady(Backoff::Exponential) };
    assert_eq!(huge.delay_before(u32::MAX, 0.5), ms(20_000), "an infinite power is cut to max_delay");
    assert_eq!(steady(Backoff::Linear).delay_before(u32::MAX, 0.5), ms(20_000));
    assert_eq!(steady(Backoff::Exponential).delay_before(0, 0.5), ms(1_000));
    // 0 × ∞ is not a number.
    assert_eq!(RestartPlan { delay: Duration::ZERO, ..huge }.delay_before(u32::MAX, 0.5), Duration::ZERO);
    assert_eq!(RestartPlan { factor: f64::NAN, ..huge }.delay_before(2, 0.5), Duration::ZERO);
    assert_eq!(RestartPlan { jitter: f64::NAN, ..huge }.delay_before(2, 0.5), Duration::ZERO);
    assert_eq!(RestartPlan { factor: -3.0, ..huge }.delay_before(2, 0.5), Duration::ZERO);
}

proptest! {
    /// Draws every field from the whole range that a configuration allows.
    #[test]
    fn restart_delay_stays_between_delay_and_max_delay_with_jitter(
        attempt in any::<u32>(),
        random in 0.0..1.0f64,
        (delay, max_delay) in (0..=i32::MAX as u64, 0..=i32::MAX as u64),
        factor in 1.0..=1e6f64,
        jitter in 0.0..=1.0f64,
        choice in 0..3usize,
    ) {
        let backoff = [Backoff::Exponential, Backoff::Linear, Backoff::Constant][choice];
        let plan = RestartPlan { delay: ms(delay), max_delay: ms(max_delay), backoff, factor, jitter, ..RestartPlan::default() };
        let waited = plan.delay_before(attempt, random).as_secs_f64();
        let (least, most) = (ms(delay.min(max_delay)).as_secs_f64() * (1.0 - jitter), ms(max_delay).as_secs_f64() * (1.0 + jitter));
        prop_assert!(least - 1e-6 <= waited && waited <= most + 1e-6, "{least} <= {waited} <= {most}");
    }
}
