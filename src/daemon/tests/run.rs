//! A daemon that is driven step by step: tailer, live loop, writer and index are the real ones, on the disk; threads of its
//! own it has none. "Killed" is: everything is dropped as it stands, in the middle of a commit, too.

use super::lines::sorted;
use crate::config::{Retention, Site};
use crate::daemon::figures::Figures;
use crate::daemon::writer::{Pace, Upkeep, WriterThread};
use crate::ingest::commit::Committer;
use crate::ingest::fold::LeftOut;
use crate::ingest::live::{Bell, Listener, LiveLoop, LiveOptions, LiveWork, MOST};
use crate::ingest::parse_block::Counts;
use crate::ingest::positions::Positions;
use crate::ingest::wall::WallClock;
use crate::parse::Parsers;
use crate::source::live::{Checkpoint, Health, Lines, Live, Problem};
use crate::source::tail::{Hint, TailOptions, Tailer};
use crate::source::tests::history::{Reader, Rng, fast_dir};
use crate::store::Store;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

/// A tailer that can be told things while the loop has it.
#[derive(Clone)]
pub struct Shared(pub Arc<Mutex<Tailer>>);

impl Live for Shared {
    fn next(&mut self, now: Instant) -> Option<Lines> {
        self.0.lock().unwrap().next(now)
    }

    fn checkpoint(&mut self) -> Checkpoint {
        self.0.lock().unwrap().checkpoint()
    }

    fn committed(&mut self) {
        self.0.lock().unwrap().committed();
    }

    fn problems(&mut self) -> Vec<Problem> {
        self.0.lock().unwrap().problems()
    }

    fn health(&self) -> Vec<Health> {
        self.0.lock().unwrap().health()
    }
}

/// The writer's side: work waits here until it is that side's turn.
pub struct Writing<'a> {
    thread: &'a WriterThread,
    pub committer: RefCell<Option<Committer<'a>>>,
    queue: RefCell<VecDeque<LiveWork>>,
    /// Store it at once: the loop is waiting for its end.
    at_once: Cell<bool>,
}

impl<'a> Writing<'a> {
    pub fn of(thread: &'a WriterThread) -> Writing<'a> {
        let committer = RefCell::new(Some(thread.committer().unwrap()));
        Writing { thread, committer, queue: RefCell::default(), at_once: Cell::new(false) }
    }

    /// Tries to store what is out, as the daemon's thread does; with a write that fails if `fault` says which.
    pub fn store(&self, fault: Option<usize>) -> bool {
        let mut committer = self.committer.borrow_mut();
        loop {
            let front = self.queue.borrow().front().cloned();
            let Some(work) = front else { return true };
            if let Some(c) = committer.as_ref() {
                c.fail_at(fault.unwrap_or(NEVER));
            }
            if let Err(e) = self.thread.try_live(&mut committer, &work) {
                if fault.is_none() {
                    eprintln!("{e}");
                }
                return false;
            }
            self.queue.borrow_mut().pop_front();
        }
    }

    pub fn is_out(&self) -> bool {
        !self.queue.borrow().is_empty()
    }
}

impl Listener for Writing<'_> {
    fn hand_in(&self, work: LiveWork) {
        self.queue.borrow_mut().push_back(work);
        assert_eq!(self.queue.borrow().len(), 1, "at most one is out at a time");
        if self.at_once.get() && !self.store(None) {
            self.thread.open.give_up();
        }
    }

    fn read(&self, _: &Counts, _: &LeftOut) {}

    fn health(&self, _: Vec<(Health, Option<f64>)>) {}

    fn problem(&self, _: &Problem) {}

    fn alive(&self) {}
}

/// A write that no commit comes to.
const NEVER: usize = 1 << 40;

enum Step {
    Poll(bool, Instant, Rng),
    Hint(Hint),
    /// Everything that was read is stored when it is done.
    Store(Instant),
    /// SIGHUP.
    Reload(Rng),
    /// What is done at quiet times.
    Tidy(Rng),
    /// SIGTERM.
    Stop,
    Kill(Rng),
}

/// What a daemon is begun with.
pub struct Setup {
    pub index: PathBuf,
    pub log: PathBuf,
    pub parsers: Arc<Parsers>,
    pub options: TailOptions,
    pub retention: Retention,
    /// As [`LiveOptions::most`].
    pub most: usize,
    pub clock: Arc<WallClock>,
}

impl Setup {
    /// The writer's part, on the index as it is on the disk.
    pub fn thread(&self) -> WriterThread {
        let upkeep = Upkeep::default();
        upkeep.keep(&self.retention);
        WriterThread {
            store: Arc::new(Store::open_or_create(&self.index).unwrap()),
            open: Arc::default(),
            figures: Arc::new(Figures::default()),
            stop: Arc::default(),
            upkeep: Arc::new(upkeep),
            clock: Arc::clone(&self.clock),
            pace: Pace::default(),
        }
    }

    /// The loop's part.
    pub fn begin<'a>(&self, thread: &'a WriterThread, writing: &'a Writing<'a>) -> (LiveLoop<'a>, Shared) {
        let stored = Positions::of(&thread.store).unwrap();
        let finished = thread.store.sources().unwrap().iter().filter_map(|s| serde_json::from_str(s).ok()).collect();
        let tailer = Tailer::new(vec![self.log.clone()], stored.tails, finished, self.options.clone());
        let tailer = Shared(Arc::new(Mutex::new(tailer)));
        let options = LiveOptions {
            site: Arc::new(Site::default()),
            parsers: Arc::clone(&self.parsers),
            hosts: Vec::new(),
            host: "mx1".into(),
            retention: self.retention.clone(),
            most: self.most,
            clock: Arc::clone(&self.clock),
        };
        let sources: Vec<Box<dyn Live>> = vec![Box::new(tailer.clone())];
        (LiveLoop::new(&thread.store, sources, Vec::new(), options, &thread.open, writing).unwrap(), tailer)
    }
}

/// All records that are stored in a folder.
pub fn records_in(index: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut each = |record| {
        all.push(record);
        true
    };
    Store::open(index).unwrap().scan(&mut each).unwrap();
    sorted(all)
}

/// What stays over restarts.
pub struct Daemon {
    pub parsers: Arc<Parsers>,
    pub options: TailOptions,
    /// Writes that fail: one commit in so many; 0: none.
    pub faults: u64,
    index: tempfile::TempDir,
    running: Option<(SyncSender<Step>, Receiver<()>, JoinHandle<()>)>,
}

impl Daemon {
    pub fn new(parsers: Arc<Parsers>, options: TailOptions, faults: u64) -> Daemon {
        Daemon { parsers, options, faults, index: fast_dir(), running: None }
    }

    /// What is stored.
    pub fn records(&self) -> Vec<(String, Vec<u8>)> {
        records_in(self.index.path())
    }

    pub fn is_sound(&self) -> bool {
        Store::verify(self.index.path()).unwrap().is_ok()
    }

    fn step(&mut self, step: Step) {
        let Some((steps, done, _)) = &self.running else { return };
        let last = matches!(step, Step::Kill(_) | Step::Stop);
        let answered = steps.send(step).is_ok() && done.recv().is_ok();
        if (last || !answered)
            && let Some((.., thread)) = self.running.take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
    }

    fn life(&self, log: PathBuf) -> impl FnOnce(Receiver<Step>, SyncSender<()>) + Send + 'static {
        let setup = Setup {
            index: self.index.path().to_owned(),
            log,
            parsers: Arc::clone(&self.parsers),
            options: self.options.clone(),
            retention: Retention::default(),
            most: MOST,
            clock: WallClock::system(),
        };
        let faults = self.faults;
        move |steps, done| {
            let thread = setup.thread();
            let writing = Writing::of(&thread);
            let mut going = true;
            while going {
                let (mut live, tailer) = setup.begin(&thread, &writing);
                going = drive(&mut live, &tailer, &writing, faults, &steps, &done);
            }
        }
    }
}

/// Takes steps until the loop ends; says whether it is to begin anew.
fn drive(live: &mut LiveLoop, tailer: &Shared, writing: &Writing, faults: u64, steps: &Receiver<Step>, done: &SyncSender<()>) -> bool {
    let fault = |rng: &mut Rng| (faults > 0 && rng.chance(faults)).then(|| 1 + rng.below(60) as usize);
    let end = |live: &mut LiveLoop| {
        writing.at_once.set(true);
        if writing.store(None) {
            live.run(&AtomicBool::new(true), &Bell::default());
        }
        writing.at_once.set(false);
        assert!(!writing.is_out());
    };
    while let Ok(step) = steps.recv() {
        let mut again = None;
        match step {
            Step::Poll(rescan, now, mut rng) => {
                if rescan {
                    tailer.0.lock().unwrap().rescan(now);
                }
                loop {
                    let read = live.turn(now);
                    if writing.is_out() && !rng.chance(4) {
                        writing.store(fault(&mut rng));
                    }
                    if !read {
                        break;
                    }
                }
            }
            Step::Hint(hint) => tailer.0.lock().unwrap().hint(hint),
            Step::Store(now) => {
                assert!(writing.store(None));
                while live.turn(now) {
                    assert!(writing.store(None));
                }
                assert!(writing.store(None));
                live.turn(now);
            }
            Step::Reload(mut rng) => {
                // With a disk that is full the loop leaves after some seconds, and its work stays out.
                if !writing.is_out() || rng.chance(2) {
                    end(live);
                }
                again = Some(true);
            }
            Step::Tidy(mut rng) => {
                let mut committer = writing.committer.borrow_mut();
                if let Some(c) = committer.as_ref() {
                    c.fail_at(fault(&mut rng).unwrap_or(NEVER));
                }
                while writing.thread.tidy(&mut committer) {}
            }
            Step::Stop => {
                end(live);
                again = Some(false);
            }
            Step::Kill(mut rng) => {
                if writing.is_out() && faults > 0 {
                    writing.store(Some(1 + rng.below(60) as usize));
                }
                again = Some(false);
            }
        }
        match again {
            Some(false) => return false,
            _ => done.send(()).unwrap(),
        }
        if again.is_some() {
            return true;
        }
    }
    false
}

fn child(rng: &mut Rng) -> Rng {
    Rng::new(rng.below(1 << 50))
}

impl Reader for Daemon {
    fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn start(&mut self, log: &Path, _: &mut Rng) {
        if self.running.is_none() {
            let ((steps, taken), (answer, done)) = (sync_channel(0), sync_channel(0));
            let life = self.life(log.into());
            self.running = Some((steps, done, std::thread::spawn(move || life(taken, answer))));
        }
    }

    fn kill(&mut self, rng: &mut Rng) {
        let step = if rng.chance(4) { Step::Stop } else { Step::Kill(child(rng)) };
        self.step(step);
    }

    fn poll(&mut self, rescan: bool, now: Instant, rng: &mut Rng) {
        self.step(Step::Poll(rescan, now, child(rng)));
    }

    fn hint(&mut self, hint: Hint) {
        self.step(Step::Hint(hint));
    }

    fn commit(&mut self, sure: bool, now: Instant, rng: &mut Rng) {
        self.step(if sure { Step::Store(now) } else { Step::Tidy(child(rng)) });
    }

    fn other(&mut self, _: &Path, _: Instant, rng: &mut Rng) {
        self.step(Step::Reload(child(rng)));
    }
}
