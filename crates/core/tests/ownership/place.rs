//! The place of a lock's holder, and of this process.

use ally_base::record::{Elsewhere, SameBoot, compare_boots, elsewhere, has_boot_id, own_place};

const BOOT: &str = "5f0c7b2e-4f0e-4c39-9a57-1d6f9c0a2e11";
const OWN: &str = "5f0c7b2e-4f0e-4c39-9a57-1d6f9c0a2e11 pid:[7] net:[8] here";
/// Of a process that sees no boot id.
const WITHOUT_BOOT: &str = "- pid:[7] net:[8] here";

#[test]
fn own_place_has_a_boot_two_namespaces_and_the_name_of_the_machine() {
    let place = own_place().unwrap();
    let words: Vec<_> = place.split(' ').collect();
    assert_eq!(words.len(), 4, "{place}");
    assert!(words[1].starts_with("pid:[") && words[2].starts_with("net:["), "{place}");
    assert!(has_boot_id(place) && !has_boot_id(WITHOUT_BOOT));
    assert_eq!(elsewhere(place, place), None);
}

#[test]
fn note_of_another_boot_is_of_another_machine() {
    let machine = |name: &str| Some(Elsewhere::Machine(name.to_owned()));
    assert_eq!(elsewhere(&OWN.replace(BOOT, "another").replace("here", "there"), OWN), machine("there"));
    assert_eq!(elsewhere("another pid:[7]", OWN), machine("another"), "the note of an older version has no name");
    assert_eq!(elsewhere("another - - -", OWN), machine("another"), "macOS has no namespaces");
}

#[test]
fn note_without_a_boot_is_compared_by_the_name_of_the_machine() {
    for (noted, own) in [(WITHOUT_BOOT, OWN), (OWN, WITHOUT_BOOT), (WITHOUT_BOOT, WITHOUT_BOOT)] {
        assert_eq!(elsewhere(noted, own), None);
        assert_eq!(elsewhere(&noted.replace("here", "there"), own), Some(Elsewhere::Machine("there".to_owned())));
    }
    // A container may have another name on the same machine.
    assert_eq!(elsewhere(&OWN.replace("here", "there"), OWN), None);
}

#[test]
fn note_of_another_namespace_is_of_another_container() {
    for own in [OWN, WITHOUT_BOOT] {
        assert_eq!(elsewhere(&OWN.replace("pid:[7]", "pid:[9]"), own), Some(Elsewhere::PidNamespace));
        assert_eq!(elsewhere(&OWN.replace("net:[8]", "net:[9]"), own), Some(Elsewhere::NetworkNamespace));
        assert_eq!(elsewhere(&OWN.replace("pid:[7] net:[8]", "pid:[9] net:[9]"), own), Some(Elsewhere::PidNamespace));
    }
}

#[test]
fn note_of_an_older_version_counts_as_far_as_it_goes() {
    assert_eq!(elsewhere(&format!("{BOOT} pid:[7]"), OWN), None);
    assert_eq!(elsewhere(&format!("{BOOT} pid:[9]"), OWN), Some(Elsewhere::PidNamespace));
    assert_eq!(elsewhere(BOOT, OWN), None);
}

#[test]
fn boots_without_an_id_are_neither_equal_nor_different() {
    assert_eq!(compare_boots("a pid:[7]", "a pid:[7]"), SameBoot::Yes);
    assert_eq!(compare_boots("a", "a"), SameBoot::Yes, "macOS has no pid namespaces");
    for other in ["b pid:[7]", "a pid:[9]", "a pid:[7] ", "a", "", "- pid:[9]", "-"] {
        assert_eq!(compare_boots(other, "a pid:[7]"), SameBoot::No, "{other:?}");
    }
    for (recorded, own) in [("- pid:[7]", "a pid:[7]"), ("a pid:[7]", "- pid:[7]"), ("- pid:[7]", "- pid:[7]")] {
        assert_eq!(compare_boots(recorded, own), SameBoot::Unknown);
    }
}
