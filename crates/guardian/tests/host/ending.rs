//! A host that ends everything: whoever needs a host waits for its daemons, which have a grace period.

use std::io::Write;
use std::time::{Duration, Instant};

use ally_core::config::Raw;
use ally_core::sharing::protocol::{Ask, Verdict};

use crate::greeting::{answer, greeting};
use crate::support::{World, lives, within};

/// Of a daemon that ends by SIGKILL only.
fn stubborn(world: &World, grace: f64) -> Raw {
    let Raw::Object(mut entries) = world.config("plugin") else { panic!("a configuration is an object") };
    let text = |text: &str| Raw::String(text.to_owned());
    for (key, value) in &mut entries {
        match key.as_str() {
            "command" => *value = text("/bin/sh"),
            "args" => *value = Raw::Array(vec![text("-c"), text("trap '' TERM; sleep 60 & while :; do wait; done")]),
            "shutdownGracePeriod" => *value = Raw::Number(grace),
            _ => {}
        }
    }
    Raw::Object(entries)
}

#[test]
fn calls_that_come_while_the_host_ends_wait_for_longer_than_a_silent_host_may_be() {
    let world = World::new();
    let (first, second, third) = (world.session(), world.session(), world.session());
    first.start(&stubborn(&world, 11_000.0)).unwrap();
    let (host, daemon) = (world.host().unwrap(), first.router.pid("plugin").unwrap());
    let begun = Instant::now();
    let mut stream = world.connect().unwrap();
    stream.write_all(&greeting(Ask::End, "another")).unwrap();
    let Verdict::MakesRoom { within: time } = answer(&stream).unwrap().verdict else { panic!("the host makes room") };
    assert!(time > Duration::from_secs(13), "{time:?}");
    // By a session that is connected, and by others.
    let connected = first.begin(&world.config("other"));
    let stop = second.router.stop("plugin", true);
    let waiting = third.begin(&world.config("third"));
    second.answer(stop).unwrap();
    assert!(!lives(daemon));
    first.answer(connected).unwrap();
    third.answer(waiting).unwrap();
    assert!(begun.elapsed() > Duration::from_secs(11));
    assert!(within(Duration::from_secs(1), || !lives(host)));
    assert!([first.router.pid("other"), third.router.pid("third")].iter().all(|pid| pid.is_some_and(lives)));
}
