//! `cargo bench --bench stages`: each stage of the way of the data by itself, on logs that `examples/genlog` makes.
//!
//! Where a stage runs on all cores in a backfill it is measured on one here, but for `commit`. One stage alone:
//! `cargo bench --bench stages -- find`. Always the same logs, so that figures of two builds can be compared.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

#[path = "../examples/genlog/site.rs"]
#[allow(dead_code)]
mod site;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use msgtrk::config::Site;
use msgtrk::daemon::tracker::ViewTracker;
use msgtrk::ingest::bind::{self, Bind};
use msgtrk::ingest::commit::{Committer, Sink, Work};
use msgtrk::ingest::fold::Fold;
use msgtrk::ingest::open::View;
use msgtrk::ingest::parse_block::{Chunk, parse_block, parse_with};
use msgtrk::ledger::{Change, Ledger, merge};
use msgtrk::model::incarnation::is_aborted;
use msgtrk::model::journey::trace;
use msgtrk::model::query::{Pattern, Query};
use msgtrk::model::record::{Role, StoredRecord};
use msgtrk::mtqp::answer::{Policy, answer};
use msgtrk::mtqp::command::{Claim, Secret};
use msgtrk::mtqp::session::{self, RequireTls, Rules, Session, StartTls, Step, Transport};
use msgtrk::mtqp::tracker::{DEFAULT_LIFETIME_DAYS, open as open_claim};
use msgtrk::parse::{Matcher, Parsers, frame};
use msgtrk::resolve::StreamState;
use msgtrk::resolve::clock::Anchor;
use msgtrk::resolve::sheet::Sheet;
use msgtrk::source::{BlockOptions, Blocks, Limits, SourceFile, open};
use msgtrk::store::{Seen, Store, build_documents};
use msgtrk::trkstat;
use site::{Mta, Options};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of log that the stages of ingest are measured with.
const LOG: u64 = 8 << 20;
/// Bytes of log in the index that is asked.
const ASKED: u64 = 32 << 20;
/// Ids of each kind that are asked for in turn.
const IDS: usize = 4096;
/// 2026-03-03 08:00:00 UTC: behind all that the logs tell of.
const NOW: i64 = 1_772_524_800;
const ALL: [Mta; 4] = [Mta::Postfix, Mta::Exim, Mta::Sendmail, Mta::Unrelated];

fn main() {
    divan::main();
    if let Some(asked) = ASKED_INDEX.get() {
        let _ = std::fs::remove_dir_all(&asked.dir);
    }
}

fn log_of(mta: Mta, bytes: u64) -> Vec<u8> {
    let mut log = Vec::new();
    site::Site::new(Options { mta, ..Options::default() }, None).write(bytes, &mut log).unwrap();
    log
}

fn log(mta: Mta) -> &'static [u8] {
    static LOGS: [OnceLock<Vec<u8>>; 5] = [const { OnceLock::new() }; 5];
    LOGS[mta as usize].get_or_init(|| log_of(mta, LOG))
}

fn parsers() -> Arc<Parsers> {
    static PARSERS: OnceLock<Arc<Parsers>> = OnceLock::new();
    PARSERS.get_or_init(|| Parsers::load(None).unwrap()).clone()
}

fn lines(log: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', log).map(move |end| &log[std::mem::replace(&mut start, end + 1)..end])
}

fn counted<'a, 'b>(bencher: Bencher<'a, 'b>, log: &[u8], items: usize) -> Bencher<'a, 'b> {
    bencher.counter(BytesCount::new(log.len())).counter(ItemsCount::new(items))
}

fn count(log: &[u8]) -> usize {
    lines(log).count()
}

/// Files to blocks of whole lines; bytes are those of the plain log.
#[divan::bench(args = ["plain", "gz", "zst"], sample_count = 20)]
fn blocks(bencher: Bencher, how: &str) {
    let (log, dir) = (log(Mta::Postfix), tempfile::tempdir().unwrap());
    let path = dir.path().join("mail.log");
    let bytes = match how {
        "gz" => {
            let mut packed = Vec::new();
            std::io::copy(&mut flate2::read::GzEncoder::new(log, flate2::Compression::default()), &mut packed).unwrap();
            packed
        }
        "zst" => zstd::encode_all(log, 3).unwrap(),
        _ => log.to_vec(),
    };
    std::fs::write(&path, bytes).unwrap();
    counted(bencher, log, count(log)).bench(|| {
        let opened = open(&SourceFile::new(&path), &Limits::default()).unwrap();
        let mut blocks = Blocks::new(opened, BlockOptions::default()).unwrap();
        while let Some(block) = blocks.next().unwrap() {
            blocks.give_back(block.bytes);
        }
        blocks.consumed()
    });
}

/// Lines to frames: stamp, host, program.
#[divan::bench(name = "frame", args = ALL, sample_count = 20)]
fn frames(bencher: Bencher, mta: Mta) {
    let log = log(mta);
    counted(bencher, log, count(log)).bench(|| lines(black_box(log)).filter(|l| frame::parse(l).is_some()).count());
}

/// Lines to fields: frame and patterns.
#[divan::bench(args = ALL, sample_count = 10)]
fn patterns(bencher: Bencher, mta: Mta) {
    let (log, mut matcher) = (log(mta), Matcher::new(parsers()));
    counted(bencher, log, count(log)).bench_local(|| {
        for line in lines(log) {
            black_box(matcher.line(line));
        }
    });
}

/// A block to events with their identities: all that parsing is, on one core.
#[divan::bench(args = ALL, sample_count = 10)]
fn parse(bencher: Bencher, mta: Mta) {
    let (log, mut matcher) = (log(mta), Matcher::new(parsers()));
    counted(bencher, log, count(log)).bench_local(|| parse_with(&mut matcher, &Sheet::default(), log));
}

fn fold_over(mta: Mta, chunks: &[Chunk]) -> Ledger {
    let mut ledger = Ledger::default();
    let site = Arc::new(Site::default());
    let mut fold = Fold::new(&parsers(), &site, "h".into(), Anchor::Year(2026), StreamState::default());
    fold.block(&mut ledger, log(mta), chunks);
    ledger
}

/// Events to the ledger: zone and year, equal lines, sessions, the table of slots.
#[divan::bench(args = [Mta::Postfix, Mta::Exim, Mta::Sendmail], sample_count = 10)]
fn resolve_and_fold(bencher: Bencher, mta: Mta) {
    let log = log(mta);
    let chunks = parse_block(&parsers(), &Sheet::default(), log);
    let events = chunks.iter().map(|c| c.items.len()).sum();
    counted(bencher, log, events).bench_local(|| fold_over(mta, &chunks));
}

fn changes(mta: Mta) -> Vec<Change> {
    fold_over(mta, &parse_block(&parsers(), &Sheet::default(), log(mta))).drain()
}

fn records(changes: Vec<Change>) -> Vec<StoredRecord> {
    changes.into_iter().flat_map(|c| merge(c, &[]).put).collect()
}

/// What was gathered to records: messages of one slot told apart, doubles dropped.
#[divan::bench(args = [Mta::Postfix, Mta::Exim, Mta::Sendmail], sample_count = 10)]
fn merge_into_records(bencher: Bencher, mta: Mta) {
    let changes = changes(mta);
    counted(bencher, log(mta), changes.len()).with_inputs(|| changes.clone()).bench_local_values(records);
}

/// Records to the engine's documents.
#[divan::bench(args = [Mta::Postfix, Mta::Exim, Mta::Sendmail], sample_count = 10)]
fn documents(bencher: Bencher, mta: Mta) {
    let records = records(changes(mta));
    counted(bencher, log(mta), records.len()).bench_local(|| build_documents(&records));
}

/// A commit into an empty index, on all cores: records, documents, terms, segments, durable on the disk.
#[divan::bench(args = [Mta::Postfix, Mta::Exim, Mta::Sendmail], sample_count = 5)]
fn commit(bencher: Bencher, mta: Mta) {
    let changes = changes(mta);
    let input = || {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_or_create(&dir.path().join("index")).unwrap();
        (dir, store, Work { changes: changes.clone(), ..Work::default() })
    };
    counted(bencher, log(mta), changes.len()).with_inputs(input).bench_local_values(|(dir, store, work)| {
        let mut committer = Committer::new(&store).unwrap();
        assert!(committer.commit(work).unwrap() > 0);
        drop(committer);
        (dir, store)
    });
}

/// An index of several MTAs' messages, and ids in it, spread over the whole of it.
struct Asked {
    dir: PathBuf,
    store: Store,
    message_ids: Vec<String>,
    queue_ids: Vec<String>,
    envelope_ids: Vec<String>,
    /// Sender and recipient of one message each.
    pairs: Vec<(String, String)>,
    /// Envelope ids that a secret opens.
    claims: Vec<Claim>,
}

static ASKED_INDEX: OnceLock<Asked> = OnceLock::new();

fn asked() -> &'static Asked {
    ASKED_INDEX.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let store = Store::open_or_create(&dir.join("index")).unwrap();
        let log = log_of(Mta::Mixed, ASKED);
        let mut ledger = Ledger::default();
        let mut fold = Fold::new(&parsers(), &Arc::new(Site::default()), "h".into(), Anchor::Year(2026), StreamState::default());
        fold.block(&mut ledger, &log, &parse_block(&parsers(), &Sheet::default(), &log));
        let mut committer = Committer::new(&store).unwrap();
        committer.commit(Work { changes: ledger.drain(), ..Work::default() }).unwrap();
        let mut roots = Vec::new();
        let mut a = Asked { dir, store: Store::open(store.dir()).unwrap(), ..empty(&store) };
        let mut n = 0usize;
        store
            .scan(&mut |stored| {
                n += 1;
                if stored.role != Role::Hop || !n.is_multiple_of(7) || is_aborted(&stored.events) {
                    return true;
                }
                let r = stored.derive();
                let first_hop = r.envelope_from.is_some() && r.client.name.as_deref().is_some_and(|c| c != "localhost");
                a.queue_ids.extend(r.queue_id);
                a.message_ids.extend(r.message_id);
                a.envelope_ids.extend(r.envelope_id);
                let to = r.recipients.into_iter().map(|x| x.final_recipient).next();
                a.pairs.extend(r.envelope_from.zip(to));
                if first_hop && roots.len() < 500 {
                    roots.push(stored);
                }
                true
            })
            .unwrap();
        for ids in [&mut a.message_ids, &mut a.queue_ids, &mut a.envelope_ids] {
            assert!(ids.len() > 100);
            ids.truncate(IDS);
        }
        let mut bound = Vec::new();
        for (n, root) in roots.iter().enumerate() {
            let (envelope_id, secret) = (format!("bench-{n}@example.org"), Secret::new(format!("secret {n}").into_bytes()));
            let certifier = secret.certifier();
            let binding =
                Bind { envelope_id: &envelope_id, certifier: &certifier, expires: Some(NOW * 2), recipient: None, by: "bench", now: NOW };
            bound.push(bind::change(root, &binding).unwrap());
            a.claims.push(Claim { envelope_id, secret });
        }
        committer.commit(Work { changes: bound, ..Work::default() }).unwrap();
        a.store.reload().unwrap();
        a
    })
}

fn empty(store: &Store) -> Asked {
    let store = Store::open(store.dir()).unwrap();
    Asked { dir: PathBuf::new(), store, message_ids: vec![], queue_ids: vec![], envelope_ids: vec![], pairs: vec![], claims: vec![] }
}

/// All records of one id.
#[divan::bench(args = ["message id", "queue id", "envelope id"], sample_count = 1000, sample_size = 1)]
fn find(bencher: Bencher, kind: &str) {
    let a = asked();
    let ids = match kind {
        "message id" => &a.message_ids,
        "queue id" => &a.queue_ids,
        _ => &a.envelope_ids,
    };
    let mut next = ids.iter().cycle();
    bencher.counter(ItemsCount::new(1u32)).with_inputs(|| next.next().unwrap()).bench_local_values(|id| {
        let found = a.store.by_id(id, 4000, &mut Seen::default()).unwrap();
        assert!(!found.is_empty(), "{id}");
        found
    });
}

/// The 100 newest messages from one sender to one recipient.
#[divan::bench(sample_count = 1000, sample_size = 1)]
fn search_from_to(bencher: Bencher) {
    let a = asked();
    let mut next = a.pairs.iter().cycle();
    bencher.counter(ItemsCount::new(1u32)).with_inputs(|| next.next().unwrap()).bench_local_values(|(from, to)| {
        let query = Query { from: Some(Pattern::new(from)), to: Some(Pattern::new(to)), limit: Some(100), ..Query::default() };
        a.store.find(&query).unwrap()
    });
}

/// A message's way over all hosts.
#[divan::bench(sample_count = 1000, sample_size = 1)]
fn journey(bencher: Bencher) {
    let a = asked();
    let mut next = a.message_ids.iter().cycle();
    bencher.counter(ItemsCount::new(1u32)).with_inputs(|| next.next().unwrap()).bench_local_values(|id| {
        let journeys = trace(&mut a.store.walk(), id).unwrap();
        assert!(!journeys.is_empty(), "{id}");
        journeys
    });
}

/// Parts of an answer to RFC 3886 text.
#[divan::bench]
fn trkstat_write(bencher: Bencher) {
    let a = asked();
    let tracker = tracker(a.store.dir());
    let policy = Policy::default();
    let parts: Vec<_> = a.claims.iter().take(100).map(|c| answered(&tracker, c, &policy).parts).collect();
    let recipients: usize = parts.iter().flatten().map(|p| p.recipients.len()).sum();
    assert!(recipients >= 100);
    bencher.counter(ItemsCount::new(recipients)).bench_local(|| {
        for parts in &parts {
            black_box(trkstat::write(black_box(parts)).unwrap());
        }
    });
}

/// As the daemon has it.
fn tracker(index: &std::path::Path) -> ViewTracker {
    let view = View::new(Arc::new(Store::open(index).unwrap()), Arc::default());
    ViewTracker { view, figures: Arc::default(), queries: Arc::default() }
}

fn answered(tracker: &ViewTracker, claim: &Claim, policy: &Policy) -> msgtrk::mtqp::answer::Answer {
    let opened = open_claim(tracker, claim, policy, DEFAULT_LIFETIME_DAYS, NOW).unwrap();
    answer(&opened, policy, &claim.envelope_id)
}

fn rules() -> Rules {
    Rules {
        starttls: StartTls::Offered,
        require_tls: RequireTls::Never,
        max_commands: u64::MAX,
        max_bad_commands: 20,
        out_of_service: None,
    }
}

fn command(claim: &Claim) -> Vec<u8> {
    format!("TRACK {} {}\r\n", claim.envelope_id, claim.secret.to_base64()).into_bytes()
}

/// The dialogue alone: a TRACK read.
#[divan::bench]
fn mtqp_session(bencher: Bencher) {
    let (rules, line) = (rules(), command(&asked().claims[0]));
    let mut session = Session::new(&rules, Transport::Plain);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        session.feed(black_box(&line));
        assert!(matches!(session.next_step(), Some(Step::Track(_))));
    });
}

/// A TRACK and its answer, without a socket: dialogue, look-up, journey, proof, text.
#[divan::bench(sample_count = 1000, sample_size = 1)]
fn mtqp_track(bencher: Bencher) {
    let a = asked();
    let tracker = tracker(a.store.dir());
    let (rules, policy) = (rules(), Policy::default());
    let mut session = Session::new(&rules, Transport::Plain);
    let mut next = a.claims.iter().cycle();
    bencher.counter(ItemsCount::new(1u32)).with_inputs(|| command(next.next().unwrap())).bench_local_values(|line| {
        session.feed(&line);
        let Some(Step::Track(claim)) = session.next_step() else { panic!("no TRACK") };
        let lines = trkstat::write(&answered(&tracker, &claim, &policy).parts).unwrap();
        session::answer(&lines)
    });
}
