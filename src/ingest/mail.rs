//! Mails into the record table: mailboxes and files of mail among the paths of a backfill, and what a daemon reads of a mailbox.
//!
//! Mails are read and parsed in parallel, a batch at a time, then folded in order. A report becomes a record of its own,
//! named by its content (so that the same one from a Maildir and an mbox is one record), with an event for each recipient.
//! What it has to do with other records is found when somebody asks (R8, R9): it does not matter which was read first.

use super::backfill::Progress;
use super::commit::Work;
use crate::config::{self, Site, Then};
use crate::ledger::Change;
use crate::model::event::{Field, Head, Kind, MAX_LINE, Span, encode};
use crate::model::record::{Role, Slot};
use crate::model::time::{Precision, SECOND};
use crate::parse::dsn::{Claim, Reader, Reading, Report, Sort};
use crate::source::mailbox::{Kind as FileKind, Mail, Mailbox, is_maildir, kind_of};
use crate::source::{FileKind as Source, Limits, Series, SourceError, open};
use crate::store::StoreError;
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Mails read at a time.
pub const BATCH: usize = 2_000;
/// Most bytes of one value that an event keeps.
const MAX_VALUE: usize = 2 * 1024;
/// Instance under which reports are kept beside a host's own records.
const INSTANCE: &str = "dsn";

/// What became of mails.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailCounts {
    /// All mails.
    pub mails: u64,
    /// Reports in them.
    pub reports: u64,
    /// Recipients that they speak of.
    pub claims: u64,
    /// Mails that are no report, by what they are.
    pub others: BTreeMap<String, u64>,
    /// Mails of which only the front was read.
    pub cut: u64,
    /// Recipients beyond the bound of one report.
    pub left_out: u64,
    /// Mailboxes and folders with mail.
    pub mailboxes: u64,
}

/// Parses mails, in parallel, in their order.
pub fn parse(reader: &Reader, mails: &[Mail]) -> Vec<Reading> {
    mails.par_iter().map(|m| reader.read(&m.bytes)).collect()
}

/// Gathers what reports say, on its way to a commit.
pub struct MailFold<'a> {
    site: &'a Site,
    changes: FxHashMap<Slot, Change>,
    bytes: usize,
    /// What became of the mails so far.
    pub counts: MailCounts,
}

impl<'a> MailFold<'a> {
    /// Nothing yet.
    pub fn new(site: &'a Site) -> Self {
        MailFold { site, changes: FxHashMap::default(), bytes: 0, counts: MailCounts::default() }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hands out all that was gathered, for [`crate::ledger::merge`] and a commit.
    pub fn drain(&mut self) -> Vec<Change> {
        self.bytes = 0;
        std::mem::take(&mut self.changes).into_values().collect()
    }

    /// Takes what a mail was read as.
    pub fn fold(&mut self, mail: &Mail, reading: &Reading) {
        self.counts.mails += 1;
        self.counts.cut += u64::from(mail.size > mail.bytes.len() as u64);
        match reading {
            Reading::Reports(reports) => reports.iter().for_each(|r| self.report(r, mail.received)),
            Reading::Other(other) => *self.counts.others.entry(other.as_str().into()).or_default() += 1,
        }
    }

    fn report(&mut self, r: &Report, received: i64) {
        self.counts.reports += 1;
        self.counts.claims += r.claims.len() as u64;
        self.counts.left_out += r.left_out;
        let named = Some(r.host())
            .filter(|h| h.len() <= 255 && h.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':')));
        let slot = Slot { host: self.site.host_name(named.unwrap_or("unknown")), instance: INSTANCE.into(), queue_id: r.name() };
        let (time, written) = r.date.or(r.arrival_date.map(|a| (a, a))).unwrap_or((received, received));
        let change = self.changes.entry(slot.clone()).or_insert_with(|| {
            self.bytes += 256;
            Change { slot, mta: r.dialect.clone(), role: Role::Report, reused: false, events: Vec::new() }
        });
        for (n, claim) in r.claims.iter().enumerate() {
            let (line, extra, spans) = event_text((n == 0).then_some(r), claim);
            let head = Head {
                kind: Kind::Report,
                action: Some(claim.action),
                time: time.saturating_mul(SECOND),
                precision: Precision::Second,
                written,
                ordinal: 0,
            };
            let before = change.events.len();
            encode(&mut change.events, &head, &spans, &line, &extra);
            self.bytes += change.events.len() - before;
        }
    }
}

/// The event of a claim: the fields as they stood in the report, and where in them (or behind them) each value is.
/// What is said of the message as a whole (`r`) stands in the first claim's event only.
fn event_text(r: Option<&Report>, c: &Claim) -> (Vec<u8>, Vec<u8>, Vec<Span>) {
    let mut line = String::new();
    for (name, value) in r.into_iter().flat_map(|r| &r.fields).chain(&c.fields) {
        line.push_str(&format!("{name}: {value}\n"));
    }
    if line.is_empty() {
        line.push_str(c.diagnostic.as_deref().unwrap_or_default());
    }
    let mut line = line.trim_end().as_bytes().to_vec();
    line.truncate(MAX_LINE);
    let (mut extra, mut spans) = (Vec::new(), Vec::new());
    let mut add = |field, value: &str| {
        let mut end = value.len().min(MAX_VALUE);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let value = value.as_bytes().get(..end).unwrap_or_default();
        let start = match memchr::memmem::find(&line, value).filter(|_| !value.is_empty()) {
            Some(at) => at,
            None => {
                extra.extend_from_slice(value);
                line.len() + extra.len() - value.len()
            }
        };
        spans.push(Span { field, start: start as u32, len: value.len() as u32 });
    };
    let seconds = |n: Option<i64>| n.map(|n| n.to_string());
    let mut values = r.map(of_message).unwrap_or_default();
    values.extend([
        (Field::OriginalRecipient, c.original_recipient.clone()),
        (Field::FinalRecipient, Some(c.final_recipient.clone())),
        (Field::Status, Some(c.status.clone())),
        (Field::StatusFrom, c.status_from.as_str().map(str::to_string)),
        (Field::RemoteMta, c.remote_mta.clone()),
        (Field::RemoteIp, c.remote_ip.clone()),
        (Field::Diagnostic, c.diagnostic.clone()),
        (Field::LastAttemptDate, seconds(c.last_attempt_date)),
        (Field::WillRetryUntil, seconds(c.will_retry_until)),
        (Field::Reason, c.reason.clone()),
        (Field::Disposition, c.disposition.clone()),
        (Field::Confidence, c.low.then(|| "low".to_string())),
    ]);
    for (field, value) in values {
        if let Some(value) = value {
            add(field, &value);
        }
    }
    (line, extra, spans)
}

/// What a report says of the message as a whole.
fn of_message(r: &Report) -> Vec<(Field, Option<String>)> {
    vec![
        (Field::QueueId, r.queue_id.clone()),
        (Field::MessageId, r.message_id.clone()),
        (Field::EnvelopeId, r.envelope_id.clone()),
        (Field::EnvelopeFrom, r.envelope_from.clone()),
        (Field::Subject, r.subject.clone()),
        (Field::ReportId, r.report_id.clone()),
        (Field::ReportedBy, r.handed_by.clone()),
        (Field::ReportingMta, r.reporting_mta.clone()),
        (Field::ArrivalDate, r.arrival_date.map(|n| n.to_string())),
        (Field::NoticeKind, (r.sort != Sort::Delivery).then(|| r.sort.as_str().to_string())),
        (Field::Program, Some(format!("dsn/{}", r.dialect))),
    ]
}

/// A mailbox that is followed, and what becomes of its mails once they are stored.
pub struct Followed {
    path: PathBuf,
    /// What is done with a mail that is stored.
    then: Then,
    move_to: Option<PathBuf>,
    open: Option<Mailbox>,
    /// Mails given out since the last commit was begun, and before that.
    given: Vec<PathBuf>,
    handed: Vec<PathBuf>,
    /// Mails given out in this run.
    pub mails: u64,
    /// What is wrong at the moment.
    pub problem: Option<String>,
}

impl Followed {
    /// Follows a mailbox as the config says.
    pub fn new(config: &config::Mailbox) -> Self {
        Followed {
            path: config.path.clone(),
            then: config.then,
            move_to: config.move_to.clone(),
            open: None,
            given: Vec::new(),
            handed: Vec::new(),
            mails: 0,
            problem: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next mails, if there are new ones; `documents` are the store's of earlier runs, `now` seconds since 1970.
    pub fn next(&mut self, documents: &[String], now: i64) -> Vec<Mail> {
        let read = self.try_next(documents, now);
        self.problem = read.as_ref().err().map(|e| format!("{e} (tried again every second)"));
        let mails = read.unwrap_or_default();
        self.mails += mails.len() as u64;
        if self.then != Then::Keep {
            self.given.extend(mails.iter().map(|m| m.path.clone()));
        }
        mails
    }

    fn try_next(&mut self, documents: &[String], now: i64) -> Result<Vec<Mail>, SourceError> {
        if self.open.is_none() {
            self.open = Mailbox::open(&self.path, documents)?;
        }
        // A mail that is just being written to an mbox is left until it is whole.
        self.open.as_mut().map_or(Ok(Vec::new()), |m| m.next(BATCH, now - 2))
    }

    /// What to remember with the commit that is begun now, as documents.
    pub fn states(&mut self) -> Vec<(String, String)> {
        self.handed.append(&mut self.given);
        self.open.as_mut().map(Mailbox::states).unwrap_or_default()
    }

    /// The commit is done, and durable (BAR I4): now mails may be moved or deleted. Only single files are, never an mbox.
    pub fn committed(&mut self) {
        for path in self.handed.drain(..) {
            let done = match (self.then, &self.move_to, path.file_name()) {
                _ if path == self.path => Ok(()),
                (Then::Delete, _, _) => std::fs::remove_file(&path),
                (Then::Move, Some(to), Some(name)) => std::fs::rename(&path, to.join("cur").join(name)),
                _ => Ok(()),
            };
            if let Err(e) = done
                && e.kind() != std::io::ErrorKind::NotFound
            {
                self.problem = Some(format!("{}: cannot be moved or deleted: {e}; it stays, and was read", path.display()));
            }
        }
    }
}

/// Mail among the paths of a backfill.
#[derive(Debug, Default)]
pub(super) struct Found {
    maildirs: Vec<PathBuf>,
    mboxes: Vec<PathBuf>,
    folders: BTreeMap<PathBuf, Vec<PathBuf>>,
}

/// Takes what is mail out of what was discovered; logs stay.
pub(super) fn take(series: &mut Vec<Series>) -> Found {
    let mut found = Found::default();
    let mut known: FxHashMap<PathBuf, bool> = FxHashMap::default();
    for s in series.iter_mut() {
        s.files.retain(|f| {
            let Some(parent) = f.path.parent().filter(|_| f.kind == Source::File) else { return true };
            let part = parent.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if matches!(part, "new" | "cur" | "tmp")
                && let Some(root) = parent.parent()
                && *known.entry(root.into()).or_insert_with(|| is_maildir(root))
            {
                return false;
            }
            let head = |f| open(f, &Limits::default()).and_then(|mut o| Ok(kind_of(o.head()?)));
            match head(f) {
                Ok(Some(FileKind::Mbox)) => found.mboxes.push(f.path.clone()),
                Ok(Some(FileKind::Mail)) => found.folders.entry(parent.into()).or_default().push(f.path.clone()),
                // What is wrong with a file is told when it is read as a log.
                Ok(None) | Err(_) => return true,
            }
            false
        });
    }
    series.retain(|s| !s.files.is_empty());
    found.maildirs.extend(known.into_iter().filter(|(_, is)| *is).map(|(root, _)| root));
    found.maildirs.sort();
    found
}

/// What reading mail needs of a backfill.
pub(super) struct Job<'a> {
    /// Where work goes.
    pub(super) hand_in: &'a mut dyn FnMut(Work) -> Result<(), StoreError>,
    /// The store's documents of sources.
    pub(super) known: Vec<String>,
    pub(super) reader: &'a Reader,
    pub(super) site: &'a Site,
    pub(super) budget: usize,
    pub(super) stop: &'a AtomicBool,
    pub(super) progress: &'a dyn Progress,
}

/// Reads all mail that was found; what cannot be read is in `problems`.
///
/// # Errors
/// What concerns the index as a whole.
pub(super) fn read(job: Job, found: &Found, problems: &mut Vec<String>) -> Result<MailCounts, StoreError> {
    let known = &job.known;
    let maildirs = found.maildirs.iter().map(|p| Mailbox::maildir(p, known));
    let mboxes = found.mboxes.iter().map(|p| Mailbox::mbox(p, known));
    let folders = found.folders.iter().map(|(p, files)| Mailbox::folder(p, files.clone(), known));
    let mut fold = MailFold::new(job.site);
    let mut states: Vec<(String, String)> = Vec::new();
    for mut mailbox in maildirs.chain(mboxes).chain(folders) {
        job.progress.file(mailbox.path());
        fold.counts.mailboxes += 1;
        while !job.stop.load(Ordering::Relaxed) {
            let mails = match mailbox.next(BATCH, i64::MAX) {
                Ok(mails) if mails.is_empty() => break,
                Ok(mails) => mails,
                Err(e) => {
                    job.progress.problem(&e.to_string());
                    problems.push(e.to_string());
                    break;
                }
            };
            for (mail, reading) in mails.iter().zip(parse(job.reader, &mails)) {
                fold.fold(mail, &reading);
            }
            if fold.bytes() > job.budget {
                put(&mut states, mailbox.states());
                (job.hand_in)(Work { changes: fold.drain(), sources: std::mem::take(&mut states), ..Work::default() })?;
            }
        }
        put(&mut states, mailbox.states());
    }
    (job.hand_in)(Work { changes: fold.drain(), sources: states, ..Work::default() })?;
    Ok(fold.counts)
}

fn put(states: &mut Vec<(String, String)>, new: Vec<(String, String)>) {
    states.retain(|(key, _)| !new.iter().any(|(n, _)| n == key));
    states.extend(new);
}

/// Whether a path is mail, for commands that take one file.
pub fn is_mail(path: &Path) -> bool {
    let file = crate::source::SourceFile::new(path);
    open(&file, &Limits::default()).and_then(|mut o| Ok(kind_of(o.head()?))).is_ok_and(|k| k.is_some())
}
