//! What is read: lines and blocks of logs, syslog's framing, mailboxes, reports.

use msgtrk::config::Site;
use msgtrk::ingest::fold::Fold;
use msgtrk::ingest::mail::MailFold;
use msgtrk::ingest::parse_block::parse_with;
use msgtrk::ledger::{Change, Ledger, merge};
use msgtrk::model::event::Field;
use msgtrk::parse::dsn::Reading;
use msgtrk::parse::{Matcher, Outcome, Parsers};
use msgtrk::resolve::StreamState;
use msgtrk::resolve::clock::Anchor;
use msgtrk::source::framing::{Decoder, Framing};
use msgtrk::source::mailbox::{Kind, Mail, Mailbox, kind_of};
use msgtrk::source::syslog::message;
use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

static PARSERS: LazyLock<Arc<Parsers>> = LazyLock::new(|| Parsers::load(None).expect("the built-in files"));

thread_local! {
    static MATCHER: RefCell<Matcher> = RefCell::new(Matcher::new(Arc::clone(&PARSERS)));
}

/// One line: every field of what it says lies in the line or in what stands behind it.
pub fn log_line(line: &[u8]) {
    MATCHER.with_borrow_mut(|m| {
        let Outcome::Event(parsed) = m.line(line) else { return };
        assert!(parsed.frame.message <= line.len() && parsed.times > 0);
        for span in &m.fields.spans {
            let (start, end) = (span.start as usize, (span.start + span.len) as usize);
            let inside = end <= line.len() || (start >= line.len() && end <= line.len() + m.fields.extra.len());
            assert!(inside, "{}: {start} to {end} of {} and {}", span.field.as_str(), line.len(), m.fields.extra.len());
        }
        assert!(m.fields.value(line, Field::FinalRecipient).is_none_or(|v| v.len() <= line.len() + m.fields.extra.len()));
    });
}

/// What blocks say, by record; the bytes of events of one second are sorted, as equal ones have no order.
fn folded(blocks: &[&[u8]]) -> Vec<Change> {
    let mut ledger = Ledger::default();
    let mut fold = Fold::new(&PARSERS, &Arc::new(Site::default()), "h".into(), Anchor::Year(2026), StreamState::default());
    for block in blocks {
        let chunk = MATCHER.with_borrow_mut(|m| parse_with(m, fold.sheet(), block));
        fold.block(&mut ledger, block, &[chunk]);
    }
    let mut changes = ledger.drain();
    changes.sort_by_cached_key(|c| (c.slot.key(), c.mta.clone()));
    changes
}

/// Records that can be shown: every recipient has a status.
fn shown(changes: Vec<Change>) {
    for stored in changes.into_iter().flat_map(|c| merge(c, &[]).put) {
        assert!(stored.derive().recipients.iter().all(|r| !r.status.is_empty()), "{stored:?}");
    }
}

/// A block of lines: what it says is the same in two blocks, cut at a line that the first byte picks.
pub fn log_block(data: &[u8]) {
    let Some((pick, text)) = data.split_first() else { return };
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', text).map(|n| n + 1).collect();
    let whole = folded(&[text]);
    if let Some(at) = ends.get(usize::from(*pick) % ends.len().max(1)) {
        let (first, second) = text.split_at(*at);
        let blocks: Vec<&[u8]> = [first, second].into_iter().filter(|b| !b.is_empty()).collect();
        let cut = folded(&blocks);
        let plain = |c: &[Change]| c.iter().map(|c| (c.slot.key(), c.events.clone())).collect::<Vec<_>>();
        assert_eq!(plain(&whole), plain(&cut));
    }
    shown(whole);
}

/// A stream of syslog messages: the same whatever the chunks, bounded, and one printable line each.
pub fn syslog(data: &[u8]) {
    const MAX: usize = 2048;
    let decoded = |chunk: usize, framing| {
        let (mut decoder, mut out) = (Decoder::new(framing, MAX), Vec::new());
        data.chunks(chunk).for_each(|c| decoder.feed(c, &mut out));
        decoder.finish(&mut out);
        (out, decoder.cut())
    };
    let chunk = usize::from(data.first().copied().unwrap_or(1)).max(1);
    for framing in [Framing::Syslog, Framing::Newline] {
        let whole = decoded(data.len().max(1), framing);
        assert_eq!(whole, decoded(chunk, framing));
        for m in &whole.0 {
            assert!(m.len() <= MAX);
            let Some(line) = message::line(m, std::net::Ipv4Addr::LOCALHOST.into(), 1_795_431_617_000_000) else { continue };
            let (end, text) = line.split_last().expect("a newline");
            assert!(*end == b'\n' && !text.iter().any(|b| *b < b' '), "{}", line.escape_ascii());
            let _ = msgtrk::parse::frame::parse(text);
        }
    }
}

/// A file with mails: the same in one call and mail by mail, and nothing new in a second run.
pub fn mailbox(data: &[u8]) {
    if kind_of(data) != Some(Kind::Mbox) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("box");
    std::fs::write(&path, data).expect("written");
    let read = |most: usize, known: &[String]| {
        let (mut mailbox, mut all) = (Mailbox::mbox(&path, known), Vec::new());
        loop {
            let mails = mailbox.next(most, i64::MAX).expect("readable");
            if mails.is_empty() {
                return (all, mailbox.states().into_iter().map(|(_, json)| json).collect::<Vec<_>>());
            }
            all.extend(mails.into_iter().map(|m| (m.bytes, m.size)));
        }
    };
    let (whole, known) = read(usize::MAX, &[]);
    assert!(!whole.is_empty() && whole.iter().map(|(b, _)| b.len()).sum::<usize>() <= data.len());
    assert_eq!(whole, read(1, &[]).0);
    assert_eq!(read(usize::MAX, &known).0, []);
}

/// Any bytes as a mail: what is read stays within its bounds, and becomes records that can be shown.
pub fn dsn(bytes: &[u8]) {
    let _ = kind_of(bytes);
    let reader = &PARSERS.reports;
    let reading = reader.read(bytes);
    let Reading::Reports(reports) = &reading else { return };
    for r in reports {
        assert!(!r.claims.is_empty() && r.claims.len() <= 5_000);
        assert!(r.claims.iter().all(|c| !c.status.is_empty()));
        assert_eq!(r.name().len(), 32);
    }
    let site = Site::default();
    let mut fold = MailFold::new(&site);
    fold.fold(&Mail { bytes: vec![], size: 0, received: 1_795_431_617, path: "m".into() }, &reading);
    assert_eq!(fold.counts.reports, reports.len() as u64);
    shown(fold.drain());
}
