//! msgtrk reads what mail systems leave behind, works out what happened to every message at every MTA,
//! keeps that in a searchable index, and answers: *what happened to this message?*
//!
//! The way of the data, and the modules in that order:
//!
//! ```text
//! bytes -> line -> event -> record -> document          (ingest)
//! query -> documents -> records -> journey -> answer    (search, trace)
//! ```
//!
//! * [`model`]: plain data and pure functions: event, record, journey, query. Imports nothing of ours.
//! * [`source`]: where bytes come from: files plain and compressed, in whole lines, with their identity.
//! * [`parse`]: line to event: the frame, then the patterns of `parsers/*.toml`.
//! * [`resolve`]: what needs the order of one source: year and zone, equal lines, split entries.
//! * [`ledger`]: folds events into records between two commits.
//! * [`store`]: keeps records and finds them; the only place that knows the index engine.
//! * [`ingest`]: wires source to store.
//! * [`config`], [`cli`]: the program.
//!
//! Two rules hold it up. A record *is* its set of events, all else is derived: lines may come late,
//! twice or from two copies of a log, and the record is the same. And the index is the only state:
//! positions of what was read travel in the same commit as the records that came of it.

pub mod cli;
pub mod config;
pub mod ingest;
pub mod ledger;
pub mod model;
pub mod parse;
pub mod resolve;
pub mod source;
pub mod store;
