//! Reading `daemon.pid`, `daemon.id` and `daemon.lock`: valid contents only.

use ally_base::os;
use ally_base::record::{Identity, LockNote, TOKEN_BYTES, VERSION, identities_text, parse_identities, token_text};
use ally_core::supervisor::Folder;
use ally_core::supervisor::leader::{SpawnReport, find_leader, living_leader, reported_leader};
use proptest::option;
use proptest::prelude::*;
use std::fs;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use crate::{TOKEN, identity, temp_dir};
use ally_base::os::own_pid;

#[test]
fn pid_file_with_other_contents_names_no_process() {
    let dir = temp_dir();
    let folder = Folder::open(dir.path(), "p").unwrap();
    let huge = format!("{}\n", "7".repeat(100_000));
    let odd = [
        "",
        "\n",
        "0\n",
        "-1\n",
        "1\n",
        "-4711\n",
        "2147483648\n",
        "99999999999999999999",
        " 4711\n",
        "4711 \n",
        "4711\n4712\n",
        "4711x",
        "4711.0",
        "0x1267",
        "\u{661}\u{662}",
        &huge,
    ];
    for text in odd {
        fs::write(folder.join("daemon.pid"), text).unwrap();
        assert_eq!(folder.read_pid(), Ok(None), "{text:.40?}");
    }
    fs::write(folder.join("daemon.pid"), b"4711\xFF\n").unwrap();
    assert_eq!(folder.read_pid(), Ok(None));
    for text in ["4711", "4711\n", "2\n", "2147483647\n"] {
        fs::write(folder.join("daemon.pid"), text).unwrap();
        assert_eq!(folder.read_pid(), Ok(text.trim().parse().ok()), "{text:?}");
    }
}

#[test]
fn identity_with_an_impossible_pid_or_start_is_refused() {
    assert_eq!(Identity::parse(&identity().to_string()), Some(identity()));
    for pid in ["1", "0", "-1", "-4711", "2147483648", "", "x"] {
        assert_eq!(Identity::parse(&identity().to_string().replace("4711", pid)), None, "{pid}");
    }
    for start in ["-1", "", "18446744073709551616"] {
        assert_eq!(Identity::parse(&identity().to_string().replace("815", start)), None, "{start}");
    }
    assert_eq!(Identity::parse(&identity().to_string().replace("ally-daemon 1", "ally-daemon 2")), None);
}

#[test]
fn identity_without_session_and_group_has_those_of_a_leader_that_made_both() {
    let text = "ally-daemon 1\npid 4711\nstart 815\nboot a-boot pid:[4026531836]\n";
    let oldest = Identity { session: 4711, group: 4711, token: None, keeper: None, version: None, grace_ms: None, ..identity() };
    assert_eq!(Identity::parse(text), Some(oldest.clone()));
    assert_eq!(oldest.to_string(), format!("{text}session 4711\ngroup 4711\n"));
    let later = format!("{text}born today\nkeeper 4709\nsession 4709\nversion 0.1.0\ngrace 5000\n\ntoken {TOKEN}\nsessions\ngroup 4710\n");
    assert_eq!(Identity::parse(&later), Some(identity()), "unknown lines are ignored");
    for number in ["0", "1", "-1", "", "x", "2147483648"] {
        for line in ["session", "group", "keeper"] {
            assert_eq!(Identity::parse(&format!("{text}{line} {number}\n")), None, "{line} {number}");
        }
    }
}

#[test]
fn identity_of_a_further_generation_that_is_damaged_does_not_count_and_the_others_do() {
    let further = |leader: i32| Identity { leader, ..identity() };
    let all = [identity(), further(12), further(13)];
    let text = identities_text(&all);
    assert_eq!(parse_identities(&text), all);
    for (from, to) in [("also pid 12", "also pid 1"), ("also pid 12", "also pidx 12"), ("also pid 12\n", "also pid 12\nalso x\n")] {
        let damaged = parse_identities(&text.replace(from, to));
        assert_eq!((damaged.first(), damaged.last(), damaged.contains(&all[1])), (Some(&all[0]), Some(&all[2]), false), "{to}");
    }
    assert_eq!(parse_identities(&text.replace("ally-daemon 1", "ally-daemon 2")), []);
    let later = text.replace("also token", "also born today\nalso token");
    assert_eq!(parse_identities(&later), all, "a line of a later version");
}

#[test]
fn token_of_another_form_is_no_token() {
    assert_eq!(token_text([0; TOKEN_BYTES]), "0".repeat(32));
    assert_eq!(token_text(std::array::from_fn(|index| index as u8 * 17)), "00112233445566778899aabbccddeeff");
    for token in ["", "x", &TOKEN[1..], &format!("{TOKEN}0"), &TOKEN.to_uppercase(), &format!("{} ", &TOKEN[1..])] {
        assert_eq!(Identity::parse(&identity().to_string().replace(TOKEN, token)), None, "{token:?}");
    }
}

#[test]
fn token_is_another_one_for_each_attempt() {
    let token = || token_text(os::random_bytes().unwrap());
    assert_ne!(token(), token());
}

/// As on a /proc with the mount option `subset=pid`.
#[test]
fn identity_without_a_boot_id_finds_its_process_only_by_the_token() {
    let (_, namespace) = os::boot_id().unwrap().split_once(' ').map(|(id, namespace)| (id.to_owned(), namespace.to_owned())).unwrap();
    let began_with_token = |identity: &Identity| find_leader(identity).unwrap().map(|process| process.pid);
    let with = Process::new("/bin/sh").args(["-c", "read end"]).env("ALLY_DAEMON_ID", TOKEN).stdin(Stdio::piped()).spawn().unwrap();
    let without = Process::new("/bin/sh").args(["-c", "read end"]).stdin(Stdio::piped()).spawn().unwrap();
    for (mut child, has_token) in [(with, true), (without, false)] {
        let leader = i32::try_from(child.id()).unwrap();
        let boot = format!("- {namespace}");
        let identity = Identity { leader, start: os::start_time(leader).unwrap(), boot, ..identity() };
        assert_eq!(began_with_token(&identity), has_token.then_some(leader));
        assert_eq!(began_with_token(&Identity { token: None, ..identity.clone() }), None, "the record of an older version");
        assert_eq!(began_with_token(&Identity { start: identity.start + 1, ..identity.clone() }), None);
        assert_eq!(began_with_token(&Identity { boot: "- pid:[1]".to_owned(), ..identity.clone() }), None);
        assert_eq!(began_with_token(&Identity { boot: os::boot_id().unwrap(), ..identity }), Some(leader), "the boot is proof enough");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn identity_finds_its_process_and_no_other() {
    const GRACE: Duration = Duration::from_millis(1_500);
    let parent = nix::unistd::getppid().as_raw();
    let start = os::start_time(own_pid()).unwrap();
    let spawned = SpawnReport { leader: own_pid(), leader_start: start, keeper: parent, keeper_start: 7, group: 8 };
    let reported = |spawned| reported_leader(spawned, TOKEN.to_owned(), GRACE).unwrap();
    let me = reported(spawned);
    assert_eq!((me.start, me.group), (start, 8));
    assert_eq!(living_leader(&me).unwrap().as_ref(), Some(&me));
    assert_eq!(living_leader(&reported(SpawnReport { keeper: parent + 1, ..spawned })).unwrap().map(|found| found.start), Some(start));
    let unread = reported(SpawnReport { leader_start: 0, ..spawned });
    assert_eq!(unread.start, 7);
    assert_eq!(living_leader(&unread).unwrap().as_ref(), Some(&me), "a child of the keeper");
    let stranger = reported(SpawnReport { leader_start: 0, keeper: parent + 1, ..spawned });
    assert_eq!(living_leader(&stranger).unwrap(), None, "neither as old nor a child of that keeper");
    assert_eq!(me.grace_ms, Some(1_500));
    assert_eq!((me.session, me.keeper, me.token.as_deref(), me.version.as_deref()), (parent, Some(parent), Some(TOKEN), Some(VERSION)));
    assert_eq!(find_leader(&me).unwrap().map(|process| process.pid), Some(own_pid()));
    assert_eq!(find_leader(&Identity { start: me.start + 1, ..me.clone() }).unwrap(), None, "the pid belongs to a later process");
    assert_eq!(find_leader(&Identity { boot: me.boot.replace('-', "_"), ..me.clone() }).unwrap(), None, "the record is of an earlier boot");
    assert_eq!(find_leader(&Identity { leader: i32::MAX, ..me }).unwrap(), None);
}

#[test]
fn lock_note_names_an_owner_a_keeper_or_nobody() {
    let owner = LockNote::Owner { pid: 4711, start: 3, manager: 9 };
    let keeper = LockNote::Keeper { pid: 4711, start: 3, grace_ms: 5_000 };
    assert_eq!((owner.to_string(), keeper.to_string()), ("owner 4711 3 9\n".to_owned(), "keeper 4711 3 5000\n".to_owned()));
    assert_eq!(LockNote::Nobody.to_string(), "");
    for pid in ["0", "1", "-1", "2147483648", "99999999999", "x", ""] {
        assert_eq!(LockNote::parse(&keeper.to_string().replace("4711", pid)), LockNote::Nobody, "no keeper has pid {pid}");
    }
    let places = [
        "5f0c7b2e-4f0e-4c39-9a57-1d6f9c0a2e11 pid:[4026531836]",
        "5f0c7b2e-4f0e-4c39-9a57-1d6f9c0a2e11 pid:[4026531836] net:[4026531840] a-machine",
        "- pid:[4026531836] net:[4026531840] a-machine",
    ];
    let notes = [(owner, "owner 4711 3 9"), (keeper, "keeper 4711 3 5000")];
    for (place, (note, text)) in places.into_iter().flat_map(|place| notes.clone().map(|note| (place, note))) {
        let with_place = format!("{text} {place}\nrest");
        assert_eq!((LockNote::parse(&with_place), LockNote::place(&with_place)), (note.clone(), Some(place)));
        // The note of an older version has no place.
        assert_eq!((LockNote::parse(text), LockNote::place(text)), (note, None));
    }
    // Pid 1 of a container may be an owner. An owner never gets a signal.
    assert_eq!(LockNote::parse("owner 1 3 9\n"), LockNote::Owner { pid: 1, start: 3, manager: 9 });
    for text in ["", "\n", "owner", "owner 4711", "owner 4711 3", "warden 4711 3 9", "4711", "owner 4711 3 -9", "owner -4711 3 9"] {
        assert_eq!(LockNote::parse(text), LockNote::Nobody, "{text:?}");
    }
}

#[test]
fn lock_note_of_two_keepers_has_a_line_for_each() {
    let keeper = |pid| LockNote::Keeper { pid, start: 3, grace_ms: 5_000 };
    let text = "keeper 4711 3 5000 a-boot pid:[1]\nkeeper 4712 3 5000\nkeeper 0 3 5000\nthe rest of an older note\n";
    assert_eq!((LockNote::parse(text), LockNote::keepers(text)), (keeper(4711), vec![keeper(4711), keeper(4712)]));
    assert_eq!(LockNote::keepers("owner 4711 3 9\n"), []);
}

proptest! {
    #[test]
    fn identity_is_read_as_it_was_written((leader, session, group) in (2..=i32::MAX, 2..=i32::MAX, 2..=i32::MAX), start in any::<u64>(), boot in "[0-9a-f-]{1,36} pid:\\[[0-9]{1,12}\\]", token in option::of(any::<u128>()), keeper in option::of(2..=i32::MAX), version in option::of("[0-9.a-z-]{1,12}"), grace_ms in option::of(any::<u64>())) {
        let identity = Identity { leader, start, boot, session, group, token: token.map(|token| format!("{token:032x}")), keeper, version, grace_ms };
        prop_assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
    }

    #[test]
    fn lock_note_is_read_as_it_was_written(pid in 2..=i32::MAX, start in any::<u64>(), last in any::<u64>(), owner in any::<bool>()) {
        let note = if owner { LockNote::Owner { pid, start, manager: last } } else { LockNote::Keeper { pid, start, grace_ms: last } };
        prop_assert_eq!(LockNote::parse(&note.to_string()), note);
    }

    /// Random words of the formats reach more of the parser than random characters.
    #[test]
    fn random_text_never_panics_the_parser_or_gives_a_pid_below_2(text in prop_oneof!["\\PC{0,80}", "(owner|keeper|pid|start|boot|ally-daemon|-?[0-9]{0,24}| |\n){0,14}", "ally-daemon 1\n(pid|boot) -?[0-9]{0,3}\n(start )?-?[0-9]{0,3}\n(boot )?.{0,3}"]) {
        for identity in parse_identities(&text.replace("\npid", "\nalso pid").replace("\n(start", "\nalso start")).into_iter().chain(Identity::parse(&text)) {
            prop_assert!(identity.leader > 1);
        }
        match LockNote::parse(&text) {
            LockNote::Keeper { pid, .. } => prop_assert!(pid > 1),
            LockNote::Owner { pid, .. } => prop_assert!(pid >= 0),
            LockNote::Nobody => {}
        }
    }
}
