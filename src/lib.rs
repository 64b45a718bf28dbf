//! msgtrk reads what mail systems leave behind, works out what happened to every message at every MTA,
//! keeps that in a searchable index, and answers: *what happened to this message?*
//!
//! # The way of the data
//! ```text
//! bytes -> line -> event -> record -> document          (ingest)
//! query -> documents -> records -> journey -> answer    (search, trace)
//! ```
//! The modules in that order:
//!
//! * [`model`]: plain data and pure functions: event, record, journey, query. Imports nothing of ours.
//! * [`source`]: where bytes come from: files plain and compressed, in whole lines, with their identity; mailboxes;
//!   live: files that are followed, the journal, a syslog listener, standard input, all in one shape.
//! * [`parse`]: line to event: the frame, then the patterns (for tables and JSON: the rows) of `parsers/*.toml`; mail to report ([`parse::dsn`]).
//! * [`resolve`]: what needs the order of one source: year and zone, equal lines, split entries, lines of a session, a table's header.
//! * [`ledger`]: folds events into records between two commits.
//! * [`store`]: keeps records and finds them; the only place that knows the index engine.
//! * [`ingest`]: wires source to store.
//! * [`trkstat`]: RFC 3886 text, written and read.
//! * [`dns`]: which name servers are asked.
//! * [`mtqp`]: the tracking protocol of RFC 3887: dialogue without I/O, server, client.
//! * [`daemon`]: what runs for months: the writer thread, the control socket, figures.
//! * [`config`], [`cli`]: the program.
//!
//! Words are those of RFC 3464, 3886 and 3888. An *event* is one fact that one line states about one
//! message at one MTA; a *record* is everything known about one message at one MTA, one part of an
//! RFC 3886 answer and one document of the index; a *journey* is the records of one message, joined.
//!
//! # The rules that hold it up
//! * **R1.** A record is a set of events, and all else in it is derived. Lines may come late, twice, from
//!   two copies of one log, or in another order between sources: the record is the same. An event's
//!   identity is what it says and its second as written, without year and zone; of two copies the finer
//!   stamp stays; equal lines of one second in one source count by their ordinal.
//! * **R2.** The index is the only state: how far each file was read travels in the same commit as the
//!   records that came of it. After any error of the writer: drop it, open anew, resume.
//! * **R3.** A record's key is host, MTA instance, queue id, and for ids that return the second of arrival.
//!   Where one message ends and the next with the same id begins is a pure function of all events known.
//! * **R4.** The store's contract is small: put, find, expire, figures. Readers test the query again on the record.
//!   Segments keep to windows of time, so that what is too old is dropped as wholes. What is taken out of a record
//!   (a person, all personal data) leaves its lines, too; nothing else ever changes one.
//! * **R5.** Protocol code does no I/O.
//! * **R6.** Everything from outside is bounded and hostile. Log text is written by strangers: patterns are
//!   anchored and follow the MTA's grammar; over a bound there is a counted skip, never a crash or silent loss.
//! * **R7.** Unknown is said: a line of a known program that no pattern knows is counted and shown, never guessed at.
//! * **R8.** An operator's journey may join by Message-ID and says so on the edge; hand-overs are proven by
//!   queue ids whose both ends agree. A report that came back as mail is a claim by whoever sent it: a record of its own,
//!   shown beside the log's word with what speaks for it, never in its place, and no part of a proof.
//! * **R9.** Programs that are no MTA (Dovecot, amavis) are witnesses: records of their own kind, joined at query
//!   time, no hop, but they refine what became of a recipient.
//!
//! # Actions
//! | what the log says | action | status |
//! |---|---|---|
//! | handed to a mailbox, program, or LMTP that saved it | delivered | as logged, else 2.0.0 |
//! | handed to an MTA whose record follows in the same journey | transferred (derived, stored as relayed) | as logged, else 2.4.0 |
//! | handed to any other MTA | relayed | as logged, else 2.4.0 |
//! | still queued after an attempt, or never tried | delayed | 4.x.x as logged, else 4.0.0 |
//! | bounced, expired, rejected | failed | 5.x.x as logged, else 5.0.0 (a refusal of a client may say 4.x.x) |
//! | thrown away by a policy, the operator's hand or the recipient's own rule | opaque | 2.0.0; the disposition says it to the operator |
//! | an alias or list of several | expanded | 2.0.0 |

pub mod cli;
pub mod config;
pub mod daemon;
pub mod dns;
pub mod ingest;
pub mod ledger;
pub mod model;
pub mod mtqp;
pub mod parse;
pub mod resolve;
pub mod smtp;
pub mod source;
pub mod store;
pub mod trkstat;
