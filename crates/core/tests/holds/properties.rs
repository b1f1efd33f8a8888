//! Long histories of several sessions, at random.

use crate::search::{ends_well, events, feed};
use crate::support::shadow::{Habit, Kind, Shadow};
use crate::support::world::MOVES;
use proptest::prelude::*;
use std::time::Duration;

const ALL: [Kind; 4] = [Kind::Everywhere, Kind::Restart, Kind::Upgrade, Kind::Wait];

fn habits() -> Vec<Habit> {
    let ms = Duration::from_millis;
    [(0, 0, 1_000), (0, 100, 2_000), (0, 0, 3_000), (1, 50, 1_500), (1, 0, 500)]
        .into_iter()
        .map(|(config, linger, timeout)| Habit { config, linger: ms(linger), timeout: ms(timeout) })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn shared_plugin_keeps_its_rules_in_every_history(
        on_demand in any::<bool>(),
        ends in prop::bool::weighted(0.2),
        picks in prop::collection::vec(any::<u16>(), 1..160),
    ) {
        let habits = habits();
        let mut shadow = Shadow::new(on_demand);
        let mut path = Vec::new();
        for pick in picks {
            // Two of three are what comes by itself, so that a daemon has a life between requests.
            let all = events(&shadow, &habits, &ALL, ends);
            let is_report = shadow.world.mail.front().is_some();
            let outcome = match pick % 3 {
                0 if is_report => { path.push(format!("{:?}", all[0])); feed(&mut shadow, &all[0], &habits) }
                1 => {
                    let what = MOVES[usize::from(pick / 3) % MOVES.len()];
                    path.push(format!("{what:?}"));
                    shadow.world.happen(what);
                    Ok(())
                }
                _ => {
                    let event = &all[usize::from(pick / 3) % all.len()];
                    path.push(format!("{event:?}"));
                    feed(&mut shadow, event, &habits)
                }
            };
            if let Err(rule) = outcome.and_then(|()| ends_well(&shadow, &habits)) {
                prop_assert!(false, "{}\n{}", path.join("\n"), rule);
            }
        }
    }
}
