//! Lines of mail systems for histories, and the records that must come of them.

use crate::config::Site;
use crate::ingest::fold::Fold;
use crate::ingest::parse_block::parse_with;
use crate::ledger::{Ledger, merge};
use crate::model::event::decode_all;
use crate::model::record::StoredRecord;
use crate::parse::{Matcher, Parsers};
use crate::resolve::clock::Anchor;
use crate::source::tests::history::{Maker, Rng};
use std::sync::Arc;

/// What a history's lines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No two are equal, each states something.
    Unique,
    /// Some are written twice in a second, or said by syslog to have been repeated.
    Repeated,
    /// Results that name the delivery only, of numbers that return: what is open at a kill must be known after it.
    Sessions,
}

/// Which stamps they bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamps {
    Rfc3339,
    Yearless,
}

struct Postfix {
    id: String,
    stage: u64,
}

fn stamp(stamps: Stamps, number: u64) -> String {
    let s = number / 3;
    let (h, m, s) = (8 + s / 3600, s / 60 % 60, s % 60);
    match stamps {
        Stamps::Rfc3339 => format!("2026-03-02T{h:02}:{m:02}:{s:02}.{:06}+00:00 mx1", number % 3),
        Stamps::Yearless => format!("Mar  2 {h:02}:{m:02}:{s:02} mx1"),
    }
}

impl Postfix {
    fn next(&mut self, number: u64) -> String {
        let id = &self.id;
        self.stage += 1;
        match self.stage {
            1 => format!("postfix/smtpd[1]: {id}: client=c.test[192.0.2.1]"),
            2 => format!("postfix/cleanup[2]: {id}: message-id=<m{id}@c.test>"),
            3 => format!("postfix/qmgr[3]: {id}: from=<a@c.test>, size=900, nrcpt=1 (queue active)"),
            4 => format!(
                "postfix/smtp[4]: {id}: to=<r@d.test>, relay=none, delay={number}, delays=0/0/1/0, dsn=4.4.1, status=deferred (connect to d.test[192.0.2.9]:25: Connection refused)"
            ),
            5 => format!(
                "postfix/smtp[4]: {id}: to=<r@d.test>, relay=d.test[192.0.2.9]:25, delay={number}, delays=0/0/1/0, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 9F{id})"
            ),
            _ => format!("postfix/qmgr[3]: {id}: removed"),
        }
    }
}

/// Deliveries of qmail: the number of a message and of a delivery return.
fn qmail(step: u64) -> String {
    let (message, delivery) = (706_430 + step / 4 % 5, 17 + step / 4 % 3);
    match step % 4 {
        0 => format!("qmail-send[71]: new msg {message}"),
        1 => format!("qmail-send[71]: info msg {message}: bytes 2737 from <a{step}@c.test> qp {} uid 1001", 3000 + step),
        2 => format!("qmail-send[71]: starting delivery {delivery}: msg {message} to remote r{step}@d.test"),
        _ => format!("qmail-send[71]: delivery {delivery}: success: 192.0.2.9_accepted_message./Remote_host_said:_250_ok_{step}/"),
    }
}

/// Several messages at once, each a line further at a time.
pub fn maker(kind: Kind, stamps: Stamps) -> Maker {
    let mut under_way: Vec<Postfix> = Vec::new();
    let (mut count, mut step, mut last) = (0, 0, String::new());
    let with_newline = |text: String| {
        let mut line = text.into_bytes();
        line.push(b'\n');
        line
    };
    Box::new(move |rng: &mut Rng, number: u64| {
        if kind == Kind::Repeated && !last.is_empty() && rng.chance(4) {
            if rng.chance(2) {
                return with_newline(last.clone());
            }
            let (frame, text) = last.split_once(" postfix/").and_then(|(f, t)| Some((f, t.split_once(": ")?))).unwrap();
            let times = 1 + rng.below(3);
            let again = match rng.below(2) {
                0 => format!("{frame} postfix/{}: message repeated {times} times: [ {}]", text.0, text.1),
                _ => format!("{frame} last message repeated {times} times"),
            };
            last.clear();
            return with_newline(again);
        }
        let message = if kind == Kind::Sessions && rng.chance(2) {
            step += 1;
            qmail(step - 1)
        } else {
            if under_way.len() < 3 {
                count += 1;
                under_way.push(Postfix { id: format!("4AB{count:07}zGHJK"), stage: 0 });
            }
            let at = rng.below(under_way.len() as u64) as usize;
            let message = under_way[at].next(number);
            if under_way[at].stage == 6 {
                under_way.remove(at);
            }
            message
        };
        last = format!("{} {message}", stamp(stamps, number));
        with_newline(last.clone())
    })
}

/// Records in the order of their keys.
pub fn sorted(mut records: Vec<StoredRecord>) -> Vec<(String, Vec<u8>)> {
    records.sort_by(|a, b| a.key.cmp(&b.key));
    records.into_iter().map(|r| (r.key, r.events)).collect()
}

/// What a backfill of these lines, in this order, would store.
pub fn records_of<'l>(parsers: &Arc<Parsers>, host: &str, now: i64, lines: impl Iterator<Item = &'l [u8]>) -> Vec<StoredRecord> {
    let block: Vec<u8> = lines.flatten().copied().collect();
    let mut ledger = Ledger::default();
    let mut fold = Fold::new(parsers, &Arc::new(Site::default()), host.into(), Anchor::NotAfter(now), Default::default());
    let chunk = parse_with(&mut Matcher::new(Arc::clone(parsers)), fold.sheet(), &block);
    fold.block(&mut ledger, &block, &[chunk]);
    ledger.drain().into_iter().flat_map(|change| merge(change, &[]).put).collect()
}

/// The lines of records' events.
pub fn lines_of(records: &[(String, Vec<u8>)]) -> impl Iterator<Item = &[u8]> {
    records.iter().flat_map(|(_, events)| decode_all(events).map(|e| e.line()))
}
