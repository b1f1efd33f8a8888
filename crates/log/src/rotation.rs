//! The older files: `file.1`, `file.2` and so on, each as it is or compressed (`file.1.gz`).

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ally_base::log_file::{self, Unfit};
use ally_base::os;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::gzip::Job;
use super::queue::Queue;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Gzip,
}

const FORMS: [Form; 2] = [Form::Plain, Form::Gzip];

/// The names of a log file and its older files, in one folder.
pub struct Rotation {
    pub folder: OwnedFd,
    pub name: PathBuf,
    /// The files that are kept, the live one included.
    pub max_files: u32,
    compress: bool,
    job: Option<Job>,
    queue: Arc<Queue>,
}

impl Rotation {
    pub fn new(folder: OwnedFd, name: PathBuf, max_files: u32, compress: bool, queue: Arc<Queue>) -> Self {
        Self { folder, name, max_files, compress, job: None, queue }
    }

    /// The name of the next live file, until it is renamed.
    pub fn new_name(&self) -> PathBuf {
        affixed(".", &self.name, ".new")
    }

    fn compressing_name(&self) -> PathBuf {
        affixed(".", &self.name, ".1.gz.new")
    }

    fn older(&self, number: u32, form: Form) -> PathBuf {
        affixed("", &self.name, &format!(".{number}{}", if form == Form::Gzip { ".gz" } else { "" }))
    }

    fn exists(&self, name: &Path) -> bool {
        fstatat(&self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    fn is_taken(&self, number: u32) -> bool {
        FORMS.into_iter().any(|form| self.exists(&self.older(number, form)))
    }

    pub fn remove(&self, name: &Path) -> Result<(), Errno> {
        match unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        renameat(&self.folder, from, &self.folder, to)
    }

    /// Removes what a killed log process has left half done, and what an earlier, larger `maxFiles` has left.
    pub fn tidy(&mut self) {
        if self.settle_new_name().is_err() {
            ignore(self.remove(&self.new_name()));
        }
        if self.open_compressing().is_ok() {
            ignore(self.remove(&self.compressing_name()));
        }
        for number in 1.. {
            let is_kept = number < self.max_files;
            if !self.is_taken(number) {
                if is_kept && number < GAPS_MAX {
                    continue;
                }
                break;
            }
            // The compressed one was synced before it got its name.
            let is_double = self.exists(&self.older(number, Form::Gzip));
            if !is_kept || is_double {
                ignore(self.remove(&self.older(number, Form::Plain)));
            }
            if !is_kept {
                ignore(self.remove(&self.older(number, Form::Gzip)));
            }
        }
    }

    /// Frees the name of the next live file. That file is empty until it has its place, so another one is the last live file of a
    /// process that was killed between two steps of a rotation: it becomes `file.1`.
    pub fn settle_new_name(&mut self) -> Result<(), Errno> {
        let new_name = self.new_name();
        let last_live = fstatat(&self.folder, &new_name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_size > 0);
        if !last_live || self.max_files == 1 {
            return self.remove(&new_name);
        }
        self.make_room()?;
        self.rename(&new_name, &self.older(1, Form::Plain))
    }

    /// Puts the new file in the place of the live one, which becomes `file.1`. At each moment there is a file of that name, and it
    /// is locked, so that no other owner can begin one.
    pub fn replace_live(&mut self, new_name: &Path) -> Result<(), Errno> {
        if self.max_files == 1 {
            return self.rename(new_name, &self.name);
        }
        self.make_room()?;
        let first = self.older(1, Form::Plain);
        match os::exchange(&self.folder, new_name, &self.name) {
            Ok(()) => self.rename(new_name, &first),
            // The file system can't do that in one step.
            Err(_) => {
                self.rename(&self.name, &first)?;
                self.rename(new_name, &self.name)
            }
        }
    }

    /// The older files make room for a new `file.1`, from the oldest down, up to the first number that is free.
    fn make_room(&mut self) -> Result<(), Errno> {
        let last = self.max_files.saturating_sub(1);
        let free = (1..last).find(|number| !self.is_taken(*number)).unwrap_or(last);
        for form in FORMS {
            self.remove(&self.older(free, form))?;
        }
        self.cancel_if_removed();
        for number in (1..free).rev() {
            for form in FORMS {
                match self.rename(&self.older(number, form), &self.older(number + 1, form)) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }

    /// A rotation has removed the file that is compressed.
    fn cancel_if_removed(&self) {
        if let Some(job) = self.job.as_ref().filter(|job| self.number_of(job).is_none()) {
            job.cancel();
        }
    }

    fn number_of(&self, job: &Job) -> Option<u32> {
        let is_of =
            |number: &u32| log_file::size_at(&self.folder, &self.older(*number, Form::Plain), job.of).is_ok_and(|size| size.is_some());
        (1..self.max_files).find(is_of)
    }

    /// Begins to compress the newest file that is not compressed yet. One at a time.
    pub fn compress_next(&mut self) {
        if !self.compress || self.job.is_some() {
            return;
        }
        let mut kept = (1..self.max_files).take_while(|number| self.is_taken(*number));
        let Some(number) = kept.find(|number| self.exists(&self.older(*number, Form::Plain))) else { return };
        // A failure leaves the file as it is, which is tried again after the next rotation.
        // So does another log process that compresses one.
        self.job = self.start_job(number).ok();
    }

    fn start_job(&self, number: u32) -> io::Result<Job> {
        let failed = |unfit: Unfit| io::Error::from_raw_os_error(unfit.errno());
        let from = log_file::open(&self.folder, &self.older(number, Form::Plain)).map_err(failed)?;
        let to = self.open_compressing().map_err(failed)?;
        to.set_len(0)?;
        Job::start(from, to, &self.queue)
    }

    /// The result of a compression, until it has its name. Locked, or EWOULDBLOCK while another log process writes it.
    fn open_compressing(&self) -> Result<File, Unfit> {
        let file = log_file::open(&self.folder, &self.compressing_name())?;
        file.try_lock().map_err(|_| Errno::EWOULDBLOCK)?;
        Ok(file)
    }

    /// A compression has ended.
    pub fn on_compressed(&mut self) {
        let Some(job) = self.job.take() else { return };
        let number = self.number_of(&job);
        let (_lock, compressed) = job.join();
        let Some(number) = number else {
            // Rotations have removed the file, and others were waiting meanwhile.
            ignore(self.remove(&self.compressing_name()));
            return self.compress_next();
        };
        if compressed.is_err() {
            // The same file would be next, and on a full disk would fail again and again.
            return ignore(self.remove(&self.compressing_name()));
        }
        let [plain, gzip] = FORMS.map(|form| self.older(number, form));
        if self.rename(&self.compressing_name(), &gzip).is_ok() {
            ignore(self.remove(&plain));
            self.compress_next();
        }
    }

    pub const fn is_compressing(&self) -> bool {
        self.job.is_some()
    }

    /// Gives a compression up. The file stays as it is, and is compressed after the next start.
    pub fn cancel(&mut self) {
        let Some(job) = self.job.take() else { return };
        job.cancel();
        let (_lock, _cancelled) = job.join();
        ignore(self.remove(&self.compressing_name()));
    }
}

/// A log with more files than this and a gap below is not looked through at each start.
const GAPS_MAX: u32 = 1000;

fn affixed(before: &str, name: &Path, behind: &str) -> PathBuf {
    let mut text = OsString::from(before);
    text.push(name);
    text.push(behind);
    text.into()
}

/// For a removal that is tried again at the next opening.
const fn ignore(_: Result<(), Errno>) {}
