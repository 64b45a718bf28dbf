//! `cargo bench --bench latency -- INDEX [SAMPLES]`: how long an index that exists takes to answer, in process.
//!
//! Opens it, draws records at random from the whole of it (reading it once, so that what was measured was in memory as far
//! as it fits), and looks each up by its ids. One line a figure, for people and for the scripts beside: name, then
//! `p50`, `p99` and `max` in microseconds. Default: 4000 samples.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use msgtrk::model::incarnation::is_aborted;
use msgtrk::model::journey::trace;
use msgtrk::model::query::{Pattern, Query};
use msgtrk::model::record::{Record, Role, StoredRecord};
use msgtrk::model::time::SECOND;
use msgtrk::store::{Seen, Store};
use std::path::Path;
use std::time::{Duration, Instant};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Look-ups before those that count.
const WARM: usize = 100;

/// xorshift64*: which records are drawn depends on the index alone.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((u128::from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)) * u128::from(n)) >> 64) as u64
    }
}

/// Memory of this process, KiB: its own, and what it has of files.
fn resident() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let of = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.trim().trim_end_matches(" kB").parse().ok());
    Some((of("RssAnon:")?, of("RssFile:")?))
}

fn report_memory(when: &str) {
    if let Some((own, files)) = resident() {
        println!("{when} resident_kib={own} mapped_kib={files}");
    }
}

/// Up to `most` records that `wanted` takes, drawn evenly from all.
fn draw(store: &Store, most: usize, random: &mut Random, wanted: &mut dyn FnMut(&StoredRecord) -> bool) -> Vec<StoredRecord> {
    let (mut drawn, mut seen) = (Vec::new(), 0u64);
    let each = &mut |record: StoredRecord| {
        if !wanted(&record) {
            return true;
        }
        seen += 1;
        if drawn.len() < most {
            drawn.push(record);
        } else if let Some(place) = drawn.get_mut(random.below(seen) as usize) {
            *place = record;
        }
        true
    };
    store.scan(each).unwrap();
    drawn
}

fn measure<T>(name: &str, of: &[T], mut once: impl FnMut(&T) -> usize) {
    if of.is_empty() {
        println!("{name} samples=0");
        return;
    }
    for one in of.iter().take(WARM) {
        once(one);
    }
    let mut found = 0;
    let mut took: Vec<Duration> = of
        .iter()
        .map(|one| {
            let began = Instant::now();
            let n = once(one);
            let took = began.elapsed();
            assert!(n > 0, "{name}: what was drawn from the index is not found in it");
            found += n;
            took
        })
        .collect();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let each = found as f64 / of.len() as f64;
    println!("{name} p50={:.1} p99={:.1} max={:.1} samples={} found={each:.1}", at(0.5), at(0.99), at(1.0), of.len());
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(index) = args.first() else {
        println!("latency: skipped, no index named (cargo bench --bench latency -- INDEX)");
        return;
    };
    let samples = args.get(1).map_or(4000, |n| n.parse().unwrap());
    let began = Instant::now();
    let store = Store::open(Path::new(index)).unwrap();
    println!("open us={:.0}", began.elapsed().as_secs_f64() * 1e6);
    report_memory("opened");
    let stats = store.stats().unwrap();
    let all = stats.hops + stats.rejects + stats.witnesses + stats.reports;
    println!("index records={all} hops={} segments={} deleted={} bytes={}", stats.hops, stats.segments, stats.deleted, stats.bytes);
    let random = &mut Random(0x6D73_6774_726B_0001);
    // A transaction that went no further than its arrival is found by nobody.
    let hops = draw(&store, samples, random, &mut |r| r.role == Role::Hop && !is_aborted(&r.events));
    // Few hosts write envelope ids into their logs.
    let named = draw(&store, samples, random, &mut |r| r.role == Role::Hop && memchr::memmem::find(&r.events, b"envid=").is_some());
    let derived = |all: Vec<StoredRecord>| -> Vec<Record> { all.iter().map(StoredRecord::derive).collect() };
    let (hops, named) = (derived(hops), derived(named));
    report_memory("read");
    let ids = |of: &[Record], id: fn(&Record) -> &Option<String>| -> Vec<String> { of.iter().filter_map(|r| id(r).clone()).collect() };
    let by_id = |id: &String| store.by_id(id, 4000, &mut Seen::default()).unwrap().len();
    let message_ids = ids(&hops, |r| &r.message_id);
    measure("find.message_id", &message_ids, by_id);
    measure("find.queue_id", &ids(&hops, |r| &r.queue_id), by_id);
    measure("find.envelope_id", &ids(&named, |r| &r.envelope_id), by_id);
    measure("journey", &message_ids, |id| trace(&mut store.walk(), id).unwrap().len());
    // The last day of the log; its time may lie long ago.
    let newest = hops.iter().map(|r| r.arrival_date.micros).max().unwrap_or(0);
    let since = newest - 86_400 * SECOND;
    let pair = |r: &Record| Some((r.envelope_from.clone().filter(|f| !f.is_empty())?, r.recipients.first()?.final_recipient.clone()));
    let pairs: Vec<_> = hops.iter().filter(|r| r.arrival_date.micros >= since).filter_map(pair).collect();
    measure("search.from_to_day", &pairs, |(from, to)| {
        let (from, to) = (Some(Pattern::new(from)), Some(Pattern::new(to)));
        store.find(&Query { from, to, since: Some(since), limit: Some(100), ..Query::default() }).unwrap().records.len()
    });
    report_memory("asked");
}
