//! Random histories in front of a tailer alone, over a store that is a list: each line must have been committed exactly once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::history::{Habits, Maker, Reader, Rng, World, run_histories};
use super::*;
use crate::source::live::{Checkpoint, Live};
use crate::source::tail::{Hint, TailOptions, Tailer};

/// What a store would hold.
#[derive(Default)]
pub(super) struct Stored {
    pub live: Vec<FileState>,
    pub finished: HashMap<(PathBuf, u64, u64, Hash128), FileState>,
    pub lines: Vec<Vec<u8>>,
}

impl Stored {
    pub fn commit(&mut self, checkpoint: Checkpoint, lines: &mut Vec<Vec<u8>>) {
        let state = |s: &FileState| serde_json::from_str::<FileState>(&serde_json::to_string(s).unwrap()).unwrap();
        self.live = checkpoint.live.iter().map(|p| state(&p.state)).collect();
        for p in checkpoint.finished {
            let s = state(&p.state);
            self.finished.insert((p.stream.to_path_buf(), s.ino, s.length, s.hash), s);
        }
        self.lines.append(lines);
    }

    pub fn tailer(&self, patterns: Vec<PathBuf>, options: TailOptions) -> Tailer {
        Tailer::new(patterns, self.live.clone(), self.finished.values().cloned().collect(), options)
    }
}

/// A tailer and what was committed of it.
#[derive(Default)]
struct Alone {
    tailer: Option<Tailer>,
    options: TailOptions,
    stored: Stored,
    uncommitted: Vec<Vec<u8>>,
}

impl Reader for Alone {
    fn is_running(&self) -> bool {
        self.tailer.is_some()
    }

    fn start(&mut self, log: &Path, _: &mut Rng) {
        if self.tailer.is_none() {
            self.tailer = Some(self.stored.tailer(vec![log.into()], self.options.clone()));
        }
    }

    fn kill(&mut self, _: &mut Rng) {
        self.tailer = None;
        self.uncommitted.clear();
    }

    fn poll(&mut self, rescan: bool, now: Instant, _: &mut Rng) {
        let Some(tailer) = &mut self.tailer else { return };
        if rescan {
            tailer.rescan(now);
        }
        while let Some(lines) = tailer.next(now) {
            assert_eq!(lines.bytes.last(), Some(&b'\n'));
            self.uncommitted.extend(lines.bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec));
        }
    }

    fn hint(&mut self, hint: Hint) {
        if let Some(tailer) = &mut self.tailer {
            tailer.hint(hint);
        }
    }

    fn commit(&mut self, _: bool, _: Instant, _: &mut Rng) {
        if let Some(tailer) = &mut self.tailer {
            self.stored.commit(tailer.checkpoint(), &mut self.uncommitted);
            tailer.committed();
        }
    }
}

fn line(rng: &mut Rng, number: u64) -> Vec<u8> {
    let len = match rng.below(60) {
        0 => 40_000,
        1 => 0,
        n => n * 3,
    };
    let fill: String = (0..len).map(|_| (b'a' + rng.below(26) as u8) as char).collect();
    format!("<{number} {fill}>\n").into_bytes()
}

fn history(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let block_size = [64, 1000, 1 << 16][rng.below(3) as usize];
    let options = TailOptions {
        hold: Duration::from_secs(5),
        max_open: [4, 256][rng.below(2) as usize],
        blocks: small(block_size, 1 << 17),
        ..TailOptions::default()
    };
    let actions = 10 + rng.below(50);
    let make: Maker = Box::new(line);
    let mut world = World::new(rng, Alone { options, ..Alone::default() }, Habits { breaks: true, loses: true, deletes: true }, make);
    world.run(actions);
    world.check(world.reader.stored.lines.iter().map(Vec::as_slice)).map_err(|e| format!("{e}\n{}", world.story()))
}

#[test]
fn every_line_of_random_histories_is_there_once() {
    run_histories(0..1000, history);
}

#[test]
fn every_line_of_more_random_histories_is_there_once() {
    run_histories(1000..2000, history);
}
