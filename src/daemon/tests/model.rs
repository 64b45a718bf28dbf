//! Random histories of a log, its rotation, and a whole daemon before it: what is stored at the end is what a backfill of
//! the lines that were written would store.
//!
//! Lines are written, files turned by rename, by copy, by a symlink to another day's, compressed, truncated, deleted; of
//! notifications some come and some do not; commits fail at any of their writes, for want of room; the daemon is told to
//! begin anew or to end, or is killed, between any two steps and at any write of a commit. 2,000 histories with
//! `MSGTRK_HISTORIES=2000` (some minutes), one with `MSGTRK_SEED=n`.

use super::lines::{Kind, Stamps, lines_of, maker, records_of, sorted};
use super::run::Daemon;
use crate::parse::Parsers;
use crate::source::BlockOptions;
use crate::source::tail::TailOptions;
use crate::source::tests::history::{Habits, Reader, Rng, World, histories, run_histories};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// So many take a few seconds.
const HISTORIES: u64 = 100;

fn history(parsers: &Arc<Parsers>, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let max_open = [4, 256][rng.below(2) as usize];
    let options = TailOptions {
        hold: Duration::from_secs(5),
        poll: Duration::from_millis([500, 2000][rng.below(2) as usize]),
        max_open,
        blocks: BlockOptions { block_size: [200, 1 << 16][rng.below(2) as usize], max_line: 1 << 17 },
        ..TailOptions::default()
    };
    let kind = [Kind::Unique, Kind::Repeated, Kind::Sessions][rng.below(3) as usize];
    let stamps = [Stamps::Rfc3339, Stamps::Yearless][rng.below(2) as usize];
    let (actions, faults) = (10 + rng.below(50), [0, 2, 10][rng.below(3) as usize]);
    let daemon = Daemon::new(Arc::clone(parsers), options, faults);
    let habits = Habits { breaks: false, loses: kind == Kind::Unique, deletes: max_open > 4 };
    let mut world = World::new(rng, daemon, habits, maker(kind, stamps));
    world.run(actions);
    let mut end = Rng::new(seed);
    world.reader.kill(&mut end);
    let records = world.reader.records();
    let wrong = |e: String| format!("{kind:?} {stamps:?} {faults}: {e}\n{}", world.story());
    if kind == Kind::Unique {
        world.check(lines_of(&records)).map_err(wrong)?;
    }
    // What `copytruncate` lost it lost; all else must be there as if it had been read at once.
    let there: HashSet<&[u8]> = lines_of(&records).collect();
    let lost = |id: &u64, line: &[u8]| world.maybe.contains(id) && !there.contains(&line[..line.len() - 1]);
    let lines = world.written.iter().filter(|(id, line)| !lost(id, line)).map(|(_, line)| line.as_slice());
    let now = chrono::Utc::now().timestamp();
    let wanted = sorted(records_of(parsers, "mx1", now, lines));
    if records != wanted {
        let keys = |of: &[(String, Vec<u8>)], but: &[(String, Vec<u8>)]| -> Vec<String> {
            let text = |(key, events): &(String, Vec<u8>)| {
                let lines =
                    lines_of(&[(String::new(), events.clone())]).map(|l| String::from_utf8_lossy(l).into_owned()).collect::<Vec<_>>();
                format!("{key}\n    {}", lines.join("\n    "))
            };
            of.iter().filter(|r| !but.contains(r)).take(3).map(text).collect()
        };
        let (more, less) = (keys(&records, &wanted).join("\n"), keys(&wanted, &records).join("\n"));
        return Err(wrong(format!("{} records, {} wanted; there:\n{more}\nwanted:\n{less}", records.len(), wanted.len())));
    }
    if world.written.len() > 20 && wanted.is_empty() {
        return Err(wrong("nothing came of the lines".into()));
    }
    if seed.is_multiple_of(16) && !world.reader.is_sound() {
        return Err(wrong("the index is damaged".into()));
    }
    Ok(())
}

fn half(from: u64, to: u64) {
    let parsers = Parsers::load(None).unwrap();
    run_histories(from..to, |seed| history(&parsers, seed));
}

#[test]
fn a_daemon_over_random_histories_stores_what_was_written() {
    half(0, histories(HISTORIES) / 2);
}

/// The same on another core.
#[test]
fn a_daemon_over_more_random_histories_stores_what_was_written() {
    half(histories(HISTORIES) / 2, histories(HISTORIES));
}
