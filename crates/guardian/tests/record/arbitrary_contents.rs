//! Starts over files of arbitrary content.

use std::fs;

use ally_core::error::Code;
use ally_core::model::ProcessState;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::contents::{Content, NAMES, files, note};
use crate::folder::{contents, create_folder, other_files};
use crate::in_pid_namespace;
use crate::start::{manager, refusals, start};
use crate::unrelated_process::UnrelatedProcess;

/// If a process listens at the socket, the start fails there. Otherwise it fails because the daemon exits at once.
#[test]
fn start_over_files_of_any_content_signals_no_process_and_removes_them() {
    in_pid_namespace("arbitrary_contents::start_over_files_of_any_content_signals_no_process_and_removes_them", || {
        proptest!(ProptestConfig::with_cases(96), |(files in files(), listens in any::<bool>())| {
            let home = tempfile::tempdir().unwrap();
            let folder = home.path().join("envs/p");
            create_folder(&folder);
            let unrelated = UnrelatedProcess::start(home.path(), listens);
            for (name, content) in NAMES.iter().zip(&files) {
                if let Some(content) = content {
                    fs::write(folder.join(name), content.bytes(&unrelated)).unwrap();
                }
            }
            let manager = manager(home.path());
            start(&manager, "p", home.path(), "socket");
            let code = refusals(&manager, 1)[0].code();
            prop_assert_eq!(code, if listens { Code::SocketInUse } else { Code::StartupExit });
            prop_assert_eq!(manager.state("p"), Some(ProcessState::Error));
            // The lock file is never removed.
            prop_assert!(folder.join("daemon.lock").exists());
            fs::remove_file(folder.join("daemon.lock")).unwrap();
            prop_assert_eq!(contents(&folder), other_files());
            prop_assert_eq!(home.path().join("socket").exists(), listens);
            unrelated.assert_unharmed();
        });
    });
}

/// A taken lock with any note. All starts run at once, because each waits for its lock.
#[test]
fn start_over_a_taken_lock_of_any_content_signals_no_process_and_changes_nothing() {
    in_pid_namespace("arbitrary_contents::start_over_a_taken_lock_of_any_content_signals_no_process_and_changes_nothing", || {
        let home = tempfile::tempdir().unwrap();
        let unrelated = UnrelatedProcess::start(home.path(), false);
        let mut runner = TestRunner::default();
        let notes: Vec<_> = (0..60).map(|_| note().new_tree(&mut runner).unwrap().current()).collect();
        let manager = manager(home.path());
        let held: Vec<_> = notes
            .into_iter()
            .chain([Content::Text("keeper PID START 0\n".to_owned()), Content::Text("keeper OWN START 0\n".to_owned())])
            .enumerate()
            .map(|(index, note)| {
                let name = format!("p{index}");
                let folder = home.path().join("envs").join(&name);
                create_folder(&folder);
                fs::write(folder.join("daemon.lock"), note.bytes(&unrelated)).unwrap();
                fs::write(folder.join("daemon.pid"), "4711\n").unwrap();
                let lock = fs::File::open(folder.join("daemon.lock")).unwrap();
                lock.try_lock().unwrap();
                let before = contents(&folder);
                start(&manager, &name, home.path(), &name);
                (folder, before, lock)
            })
            .collect();
        let refused = refusals(&manager, held.len());
        assert!(refused.iter().all(|failure| failure.code() == Code::OwnedElsewhere), "{refused:?}");
        for (folder, before, _lock) in held {
            assert_eq!(contents(&folder), before);
        }
        unrelated.assert_unharmed();
    });
}
