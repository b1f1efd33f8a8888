//! When the host leaves, and what it leaves behind.

use std::fs;
use std::time::Duration;

use ally_core::config::Raw;

use crate::support::{World, lives, within};

#[test]
fn the_host_leaves_within_a_second_after_the_last_daemon_and_removes_its_socket() {
    let world = World::new();
    let session = world.session();
    session.start(&world.config("plugin")).unwrap();
    let (host, daemon) = (world.host().unwrap(), session.router.pid("plugin").unwrap());
    session.stop("plugin").unwrap();
    assert!(!lives(daemon));
    assert!(within(Duration::from_secs(1), || !lives(host)), "the host leaves");
    assert!(!world.socket().exists());
}

#[test]
fn a_start_that_meets_a_leaving_host_gets_the_next_one() {
    let world = World::new();
    let config = world.config("plugin");
    let mut hosts = Vec::new();
    for pause in [0, 200, 390, 400, 405, 410, 420] {
        let session = world.session();
        session.start(&config).unwrap();
        hosts.push(world.host().unwrap());
        session.stop("plugin").unwrap();
        // The host leaves 400 ms later: the starts fall before, into and behind that moment.
        std::thread::sleep(Duration::from_millis(pause));
    }
    let session = world.session();
    session.start(&config).unwrap();
    assert!(session.router.pid("plugin").is_some_and(lives));
}

#[test]
fn a_session_that_has_a_plugin_in_error_keeps_the_host() {
    let world = World::new();
    let session = world.session();
    let Raw::Object(mut entries) = world.config("plugin") else { panic!("a configuration is an object") };
    for (key, value) in &mut entries {
        if key == "command" {
            *value = Raw::String("/no/such/program".to_owned());
        }
    }
    session.start(&Raw::Object(entries)).unwrap_err();
    let host = world.host().unwrap();
    assert!(!within(Duration::from_millis(1_500), || !lives(host)));
    session.router.forget("plugin");
    assert!(within(Duration::from_secs(1), || !lives(host)), "the host leaves");
}

#[test]
fn a_folder_that_vanishes_lets_the_host_serve_its_sessions_and_no_others() {
    let world = World::new();
    let session = world.session();
    session.start(&world.config("plugin")).unwrap();
    let host = world.host().unwrap();
    fs::remove_dir_all(world.folder()).unwrap();
    let other = world.session();
    other.start(&world.config("other")).unwrap();
    assert_ne!(world.host().unwrap(), host);
    assert!(lives(session.router.pid("plugin").unwrap()));
    session.stop("plugin").unwrap();
    assert!(within(Duration::from_secs(1), || !lives(host)), "the host leaves");
    assert!(lives(other.router.pid("other").unwrap()));
}

#[test]
fn a_folder_that_is_renamed_ends_what_no_session_has() {
    // Also if another folder has the path by then.
    for is_replaced in [false, true] {
        let world = World::new();
        let session = world.session();
        session.start(&lingering(&world)).unwrap();
        session.start(&world.config("held")).unwrap();
        let (host, lingers) = (world.host().unwrap(), session.router.pid("plugin").unwrap());
        session.stop("plugin").unwrap();
        fs::rename(world.folder(), world.envs_dir().join("renamed")).unwrap();
        if is_replaced {
            world.make_folder();
        }
        assert!(within(Duration::from_secs(3), || !lives(lingers)), "the daemon that lingers is stopped");
        assert!(lives(session.router.pid("held").unwrap()));
        session.stop("held").unwrap();
        assert!(within(Duration::from_secs(1), || !lives(host)), "the host leaves");
    }
}

fn lingering(world: &World) -> Raw {
    let Raw::Object(mut entries) = world.config("plugin") else { panic!("a configuration is an object") };
    entries.retain(|(key, _)| key != "shared");
    entries.push(("shared".to_owned(), Raw::Object(vec![("linger".to_owned(), Raw::Number(60_000.0))])));
    Raw::Object(entries)
}
