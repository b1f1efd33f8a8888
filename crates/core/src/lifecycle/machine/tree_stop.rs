//! The stop of one tree: the stop signal, the grace period, SIGKILL, and the answers of the keeper. The serving generation is
//! stopped by it, and so is the second generation of an upgrade.

use core::mem;
use core::time::Duration;

use super::{ACKNOWLEDGEMENT_TIMEOUT, KILL_TIMEOUT, WAKE_TIMEOUT};
use crate::lifecycle::event::{Effect, Notice, Signal, Timer};
use crate::lifecycle::phase::{Acknowledgement, Generation, Leader, TreeState};
use crate::model::Pid;

pub(super) struct TreeStop<'a> {
    pub generation: Generation,
    pub grace: Duration,
    pub effects: &'a mut Vec<Effect>,
}

impl TreeStop<'_> {
    /// Sends the stop signal. If the grace period is 0, sends SIGKILL instead.
    pub fn begin(&mut self, leader: Leader) -> TreeState {
        if self.grace.is_zero() {
            return self.kill(leader);
        }
        // If the leader is not spawned yet, the stop signal is sent after the spawn.
        let acknowledgement = if leader == Leader::Pending { Acknowledgement::Done } else { self.signal(Signal::Terminate, leader) };
        self.arm(Timer::Grace, self.grace);
        TreeState { leader, killed: false, acknowledgement }
    }

    /// Sends SIGKILL, also if the leader is not spawned yet.
    pub fn kill(&mut self, leader: Leader) -> TreeState {
        let acknowledgement = self.signal(Signal::Kill, leader);
        self.arm(Timer::Kill, KILL_TIMEOUT);
        TreeState { leader, killed: true, acknowledgement }
    }

    /// Gives the keeper a command. Before the spawn the keeper is not known, so nothing is expected of it.
    fn signal(&mut self, signal: Signal, leader: Leader) -> Acknowledgement {
        self.effects.push(Effect::Signal { generation: self.generation, signal });
        if leader == Leader::Pending {
            return Acknowledgement::Done;
        }
        self.arm(Timer::Acknowledgement, ACKNOWLEDGEMENT_TIMEOUT);
        Acknowledgement::Pending
    }

    /// The stop came before the spawn. The grace period began with the stop.
    pub fn spawned(&mut self, tree: &mut TreeState, pid: Pid) {
        tree.leader = Leader::Alive(pid);
        let signal = if tree.killed { Signal::Kill } else { Signal::Terminate };
        self.effects.push(Effect::Notify(Notice::Spawned { pid }));
        tree.acknowledgement = self.signal(signal, Leader::Alive(pid));
    }

    /// The leader was spawned after SIGKILL, which was given up.
    pub fn kill_late(&mut self, pid: Pid) -> TreeState {
        self.effects.push(Effect::Notify(Notice::Spawned { pid }));
        self.effects.push(Effect::Signal { generation: self.generation, signal: Signal::Kill });
        TreeState { leader: Leader::Alive(pid), killed: true, acknowledgement: Acknowledgement::Done }
    }

    pub fn acknowledged(&mut self, tree: &mut TreeState) {
        if mem::replace(&mut tree.acknowledgement, Acknowledgement::Done) != Acknowledgement::Done {
            self.disarm(Timer::Acknowledgement);
        }
    }

    pub fn acknowledgement_elapsed(&mut self, tree: &mut TreeState) {
        tree.acknowledgement = match tree.acknowledgement {
            Acknowledgement::Done => return,
            Acknowledgement::Pending => {
                self.effects.push(Effect::WakeKeeper { generation: self.generation });
                if tree.killed {
                    self.arm(Timer::Acknowledgement, WAKE_TIMEOUT);
                }
                Acknowledgement::Late
            }
            // Before SIGKILL is due the keeper may be late.
            Acknowledgement::Late if !tree.killed => return,
            Acknowledgement::Late => self.kill_keeper(),
        };
    }

    pub fn grace_elapsed(&mut self, tree: &mut TreeState) {
        if tree.killed {
            return;
        }
        if tree.acknowledgement == Acknowledgement::Done {
            *tree = self.kill(tree.leader);
            return;
        }
        // Also beside the end of the keeper: it may not be possible to signal the keeper.
        self.effects.push(Effect::Signal { generation: self.generation, signal: Signal::Kill });
        if tree.acknowledgement == Acknowledgement::Pending {
            self.effects.push(Effect::WakeKeeper { generation: self.generation });
        }
        let has_had_its_time = self.grace >= ACKNOWLEDGEMENT_TIMEOUT + WAKE_TIMEOUT;
        tree.acknowledgement = if tree.acknowledgement == Acknowledgement::Late && has_had_its_time {
            self.kill_keeper()
        } else {
            self.rearm(Timer::Acknowledgement, WAKE_TIMEOUT);
            self.arm(Timer::Kill, KILL_TIMEOUT);
            Acknowledgement::Late
        };
        tree.killed = true;
    }

    /// Whether SIGKILL has not ended the tree in time. If the keeper has sent no SIGKILL, the time begins anew.
    pub fn kill_elapsed(&mut self, tree: &mut TreeState) -> bool {
        if tree.killed && tree.acknowledgement != Acknowledgement::Done {
            tree.acknowledgement = self.kill_keeper();
            return false;
        }
        tree.killed
    }

    /// For a keeper that does not act. The time limit of SIGKILL begins anew, because SIGKILL reaches the tree now.
    fn kill_keeper(&mut self) -> Acknowledgement {
        self.effects.push(Effect::KillKeeper { generation: self.generation });
        self.disarm(Timer::Acknowledgement);
        self.rearm(Timer::Kill, KILL_TIMEOUT);
        Acknowledgement::Done
    }

    /// The tree is gone.
    pub fn end(&mut self) {
        for timer in [Timer::Acknowledgement, Timer::Grace, Timer::Kill] {
            self.disarm(timer);
        }
    }

    fn arm(&mut self, timer: Timer, after: Duration) {
        self.effects.push(Effect::Arm { timer, generation: self.generation, after });
    }

    fn disarm(&mut self, timer: Timer) {
        self.effects.push(Effect::Disarm { timer, generation: self.generation });
    }

    fn rearm(&mut self, timer: Timer, after: Duration) {
        self.disarm(timer);
        self.arm(timer, after);
    }
}
