//! Query execution: filters become term lookups, candidates are taken in order of arrival, and each is tested again (R4).

use super::clause::{Clause, Place};
use super::ids;
use super::schema::{self, prefix};
use super::snapshot::{Parts, Snapshot};
use super::{Found, Result, Store, StoreError, Total};
use crate::model::journey::Lookup;
use crate::model::query::{Pattern, Query, Sort};
use crate::model::record::{Record, Role, StoredRecord};
use rayon::prelude::*;
use std::collections::{BinaryHeap, HashSet};
use tantivy::columnar::Column;
use tantivy::schema::Field;
use tantivy::{DocAddress, DocId, DocSet, SegmentReader, TERMINATED, TantivyError};

/// Candidates that are fetched and tested at a time.
const STEP: usize = 512;

/// Records that a walk has had already.
#[derive(Default, Clone)]
pub struct Seen(HashSet<DocAddress>);

/// A walk over the store from id to id, for one journey.
pub struct Walk<'a> {
    store: &'a Store,
    seen: Seen,
}

/// Most records that one id is followed to.
const MOST_BY_ID: usize = 4_000;

impl Lookup for Walk<'_> {
    type Error = StoreError;

    fn by_id(&mut self, id: &str) -> Result<Vec<Record>> {
        self.store.by_id(id, MOST_BY_ID, &mut self.seen)
    }
}

/// A query made ready: clauses to be met together, the range of arrivals, and whether that is all there is to it.
struct Plan {
    clauses: Vec<Clause>,
    since: i64,
    until: i64,
    exact: bool,
}

/// Place of a candidate in the order asked for; smaller comes first.
type Rank = (i64, DocAddress);

fn plan(f: &schema::Fields, q: &Query) -> Plan {
    let mut clauses = Vec::new();
    let roles = match q.role {
        Some(role) => vec![schema::role_term(role).to_owned()],
        None => [Role::Hop, Role::Reject].map(|r| schema::role_term(r).to_owned()).to_vec(),
    };
    clauses.push(Clause::Terms(f.terms, roles));
    if q.open {
        clauses.push(Clause::Terms(f.terms, vec![prefix::OPEN.into()]));
    }
    let mut term = |prefix: &'static str, p: &Option<Pattern>| {
        let Some(p) = p else { return };
        clauses.push(match p.is_wild() {
            true => Clause::Wild(f.terms, prefix, p.clone()),
            false => Clause::Terms(f.terms, vec![format!("{prefix}{}", p.as_str())]),
        });
    };
    let (sender, from) = address(prefix::SENDER, prefix::SENDER_DOMAIN, &q.from);
    let (recipient, to) = address(prefix::RECIPIENT, prefix::RECIPIENT_DOMAIN, &q.to);
    term(sender, &from);
    term(recipient, &to);
    term(prefix::HOST, &q.host);
    term(prefix::CLIENT, &q.client);
    term(prefix::USER, &q.user);
    term(prefix::STATUS, &q.status);
    term(prefix::RELAY, &q.relay);
    term(prefix::MTA, &q.mta);
    term(prefix::ACTION, &q.action.map(|a| Pattern::new(a.as_str())));
    // Where a part of an id is asked for, every record is looked at.
    let ids = [&q.message_id, &q.envelope_id, &q.queue_id].into_iter().flatten();
    clauses.extend(ids.filter(|id| !id.is_wild()).map(|id| Clause::Ids(vec![ids::hash(id.as_str())])));
    q.words.iter().for_each(|w| word_clauses(f.words, w, &mut clauses));
    let of_recipients = [q.to.is_some(), q.action.is_some(), q.status.is_some(), q.relay.is_some()];
    let exact = q.words.is_empty()
        && q.size.is_none()
        && q.direction.is_none()
        && q.message_id.is_none()
        && q.envelope_id.is_none()
        && q.queue_id.is_none()
        && of_recipients.into_iter().filter(|b| *b).count() < 2;
    Plan { clauses, since: q.since.unwrap_or(i64::MIN), until: q.until.unwrap_or(i64::MAX), exact }
}

/// Which terms an address pattern is looked up in: `*@domain` in those of domains, all else in whole addresses.
fn address(whole: &'static str, domain: &'static str, p: &Option<Pattern>) -> (&'static str, Option<Pattern>) {
    let rest = p.as_ref().and_then(|p| p.as_str().strip_prefix("*@"));
    match rest {
        // The domain is what follows the last `@`: only a star at its beginning could stand for more than that.
        Some(d) if !d.contains('@') && !d.is_empty() && !d.get(1..).is_some_and(|t| t.contains('*')) => (domain, Some(Pattern::new(d))),
        _ => (whole, p.clone()),
    }
}

/// A word of the query may begin and end amid words of the text: each of its pieces is looked up as what it can be.
fn word_clauses(field: Field, word: &str, clauses: &mut Vec<Clause>) {
    let pieces: Vec<&str> = word.split(|c: char| !c.is_alphanumeric()).collect();
    let last = pieces.len().saturating_sub(1);
    for (i, piece) in pieces.iter().enumerate() {
        if piece.len() > 1 {
            clauses.push(Clause::Word(field, piece.to_lowercase(), Place { start: i > 0, end: i < last }));
        }
    }
}

impl Plan {
    /// Calls `each` for every live document of a segment that meets all clauses and the time range, with its arrival.
    fn run(&self, segment: &SegmentReader, parts: &Parts, each: &mut dyn FnMut(i64, DocId)) -> tantivy::Result<()> {
        // A segment of another time is left unread. Without a time, the terms come first: an id is in few segments.
        let timed = self.since > i64::MIN || self.until < i64::MAX;
        let other = |f: &Column<i64>| f.num_docs() == 0 || f.max_value() < self.since || f.min_value() >= self.until;
        if timed && other(parts.first(segment)?) {
            return Ok(());
        }
        let mut sets = Vec::with_capacity(self.clauses.len());
        for clause in &self.clauses {
            let Some(set) = clause.documents(segment, parts)? else { return Ok(()) };
            sets.push(set);
        }
        sets.sort_by_key(|s| s.0);
        let mut sets = sets.into_iter().map(|s| s.1);
        let Some(mut lead) = sets.next() else { return Ok(()) };
        let mut others: Vec<_> = sets.collect();
        let first = parts.first(segment)?;
        let mut doc = lead.doc();
        'next: while doc != TERMINATED {
            for other in &mut others {
                let at = if other.doc() < doc { other.seek(doc) } else { other.doc() };
                if at > doc {
                    doc = if at == TERMINATED { TERMINATED } else { lead.seek(at) };
                    continue 'next;
                }
            }
            if !segment.is_deleted(doc)
                && let Some(t) = first.first(doc)
                && t >= self.since
                && t < self.until
            {
                each(t, doc);
            }
            doc = lead.advance();
        }
        Ok(())
    }

    /// How many documents of a segment [`Plan::run`] finds.
    fn count(&self, segment: &SegmentReader, parts: &Parts) -> tantivy::Result<u64> {
        let mut count = 0;
        if let ([clause @ Clause::Terms(..)], i64::MIN, i64::MAX) = (self.clauses.as_slice(), self.since, self.until) {
            // No document has two of the terms of one clause (each has one role): only those that are deleted are to be looked at.
            let Some((all, mut set)) = clause.documents(segment, parts)? else { return Ok(0) };
            for doc in (0..segment.max_doc()).filter(|doc| segment.is_deleted(*doc)) {
                let at = if set.doc() < doc { set.seek(doc) } else { set.doc() };
                count += u64::from(at == doc);
            }
            return Ok(all - count);
        }
        self.run(segment, parts, &mut |_, _| count += 1)?;
        Ok(count)
    }

    /// The first `most` candidates behind `after`, in order, and how many candidates there are in all.
    fn candidates(&self, snapshot: &Snapshot, sort: Sort, after: Option<Rank>, most: usize) -> tantivy::Result<(Vec<Rank>, u64)> {
        let rank = |first: i64| if sort == Sort::Newest { !first } else { first };
        let mut segments: Vec<(i64, u32, &SegmentReader, &Parts)> = Vec::new();
        for (ord, segment, parts) in snapshot.segments() {
            // Where few are wanted, segments that hold later ones only are not read for them.
            let best = match most {
                usize::MAX => i64::MIN,
                _ => {
                    let first = parts.first(segment)?;
                    rank(if sort == Sort::Newest { first.max_value() } else { first.min_value() })
                }
            };
            segments.push((best, ord, segment, parts));
        }
        segments.sort_by_key(|s| s.0);
        let mut heap: BinaryHeap<Rank> = BinaryHeap::new();
        let mut all: Vec<Rank> = Vec::new();
        let mut total = 0;
        for (best, ord, segment, parts) in segments {
            if heap.len() == most && heap.peek().is_some_and(|worst| best > worst.0) {
                total += self.count(segment, parts)?;
                continue;
            }
            self.run(segment, parts, &mut |first, doc| {
                total += 1;
                let at = (rank(first), DocAddress::new(ord, doc));
                if after.is_some_and(|a| at <= a) {
                } else if most == usize::MAX {
                    all.push(at);
                } else if heap.len() < most {
                    heap.push(at);
                } else if let Some(mut worst) = heap.peek_mut()
                    && at < *worst
                {
                    *worst = at;
                }
            })?;
        }
        all.extend(heap);
        all.sort_unstable();
        Ok((all, total))
    }
}

fn with_lines((stored, record): (StoredRecord, Record)) -> Record {
    Record { events: stored.lines(), ..record }
}

impl Store {
    /// Finds the records that meet a query, in its order, at most its limit.
    ///
    /// Words are looked for in diagnostics, remarks and subjects. Of what a next host said when it took a mail, words
    /// with digits (ids, addresses) are not indexed: ids are found by [`Store::by_id`].
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn find(&self, q: &Query) -> Result<Found> {
        let mut records: Vec<Record> = Vec::new();
        let limit = q.limit.unwrap_or(usize::MAX);
        let total = self.visit(q, limit, &mut |_, record| {
            records.push(record);
            records.len() < limit
        })?;
        let by_key = |a: &Record, b: &Record| a.key.cmp(&b.key);
        match q.sort {
            Sort::Newest => records.sort_by(|a, b| b.arrival_date.micros.cmp(&a.arrival_date.micros).then_with(|| by_key(a, b))),
            Sort::Oldest => records.sort_by(|a, b| a.arrival_date.micros.cmp(&b.arrival_date.micros).then_with(|| by_key(a, b))),
        }
        Ok(Found { records, total })
    }

    /// Calls `each` for the records that meet a query, in its order (its limit is not looked at), until `each` says `false`.
    /// Memory does not grow with the size of the records.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn for_each(&self, q: &Query, each: &mut dyn FnMut(&StoredRecord, Record) -> bool) -> Result<Total> {
        self.visit(q, usize::MAX, each)
    }

    fn visit(&self, q: &Query, limit: usize, each: &mut dyn FnMut(&StoredRecord, Record) -> bool) -> Result<Total> {
        let snapshot = self.snapshot();
        let plan = plan(&self.fields, q);
        let mut most = if limit < STEP { limit.max(1) + 32 } else { usize::MAX };
        let (mut after, mut matched) = (None, 0u64);
        loop {
            let (places, total) = plan.candidates(&snapshot, q.sort, after, most).map_err(self.error("search"))?;
            for step in places.chunks(STEP) {
                for tested in self.test(&snapshot, q, step)? {
                    let Some((stored, record)) = tested else { continue };
                    matched += 1;
                    if matched > limit as u64 || !each(&stored, record) {
                        let exact = plan.exact || (Some(total) == Some(places.len() as u64) && matched == total);
                        return Ok(if exact { Total::Exact(total) } else { Total::AtLeast(matched) });
                    }
                }
            }
            if places.len() < most {
                return Ok(Total::Exact(matched));
            }
            after = places.last().copied();
            most = usize::MAX;
        }
    }

    /// Fetches candidates and tests each; those that do not meet the query are `None`.
    fn test(&self, snapshot: &Snapshot, q: &Query, step: &[Rank]) -> Result<Vec<Option<(StoredRecord, Record)>>> {
        let one = |&(_, at): &Rank| -> Result<Option<(StoredRecord, Record)>> {
            let stored = self.fetch(snapshot, at)?;
            let record = stored.derive_bare();
            let fits = q.matches(&record);
            Ok(fits.then(|| {
                let record = Record { events: stored.lines(), ..record };
                (stored, record)
            }))
        };
        if step.len() > 64 { step.par_iter().map(one).collect() } else { step.iter().map(one).collect() }
    }

    /// Begins a walk from id to id.
    pub fn walk(&self) -> Walk<'_> {
        Walk { store: self, seen: Seen::default() }
    }

    /// Records that have just this string as queue id, message id, envelope id, next host's queue id, former queue
    /// id, or queue id of a notification or its cause; newest first, at most `limit`. Witnesses are among them.
    ///
    /// What `seen` holds is left out, unread, and what is returned is put into it: a walk from id to id reads each
    /// record once, however many of its ids lead back to it.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn by_id(&self, id: &str, limit: usize, seen: &mut Seen) -> Result<Vec<Record>> {
        Ok(self.with_id(id, None, limit, seen)?.into_iter().map(with_lines).collect())
    }

    /// As [`Store::by_id`], in the stored form.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn stored_by_id(&self, id: &str, limit: usize, seen: &mut Seen) -> Result<Vec<StoredRecord>> {
        Ok(self.with_id(id, None, limit, seen)?.into_iter().map(|(stored, _)| stored).collect())
    }

    /// As [`Store::by_id`], of one role or all, in both forms and without log lines; what is of another role is not read,
    /// and does not count.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn with_id(&self, id: &str, role: Option<Role>, limit: usize, seen: &mut Seen) -> Result<Vec<(StoredRecord, Record)>> {
        self.bearing(vec![ids::hash(&id.to_lowercase())], role, limit, seen, &|own| own == id)
    }

    /// Records of one role or all that bear an id that `is` one of those asked for, which have these hashes; newest first.
    fn bearing(
        &self,
        hashes: Vec<u32>,
        role: Option<Role>,
        limit: usize,
        seen: &mut Seen,
        is: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<(StoredRecord, Record)>> {
        let snapshot = self.snapshot();
        let mut clauses = vec![Clause::Ids(hashes)];
        clauses.extend(role.map(|role| Clause::Terms(self.fields.terms, vec![schema::role_term(role).into()])));
        let plan = Plan { clauses, since: i64::MIN, until: i64::MAX, exact: false };
        let (places, _) = plan.candidates(&snapshot, Sort::Newest, None, usize::MAX).map_err(self.error("search"))?;
        let mut found = Vec::new();
        for (_, at) in places {
            if seen.0.contains(&at) {
                continue;
            }
            if found.len() >= limit {
                break;
            }
            let stored = self.fetch(&snapshot, at)?;
            let record = stored.derive_bare();
            let mut named = false;
            stored.each_id(&record, &mut |own| named |= is(own));
            if named {
                seen.0.insert(at);
                found.push((stored, record));
            }
        }
        Ok(found)
    }

    /// Whether there is any notification ([`Role::Report`]) in the index.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn has_reports(&self) -> Result<bool> {
        for segment in self.snapshot().segment_readers() {
            let inverted = segment.inverted_index(self.fields.terms).map_err(self.error("search"))?;
            if inverted.terms().get(prefix::REPORT.as_bytes()).map_err(self.io_error("search"))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Records of one role that bear one of these ids (queue id, Message-ID, ENVID, or any other id they name), without
    /// regard to case; at most `limit`.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn of_role(&self, role: Role, ids: &[&str], limit: usize) -> Result<Vec<Record>> {
        let ids: Vec<String> = ids.iter().map(|id| id.to_lowercase()).collect();
        let hashes = ids.iter().map(|id| ids::hash(id)).collect();
        let is = |own: &str| ids.contains(&own.to_lowercase());
        let found = self.bearing(hashes, Some(role), limit, &mut Seen::default(), &is)?;
        Ok(found.into_iter().map(with_lines).collect())
    }

    pub(super) fn io_error(&self, doing: &'static str) -> impl Fn(std::io::Error) -> StoreError + '_ {
        move |e| self.error(doing)(TantivyError::from(e))
    }
}
