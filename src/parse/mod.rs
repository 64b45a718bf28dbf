//! Lines to events. Stateless: what needs the order of lines is `resolve`'s.
//!
//! [`frame`] takes a line apart (stamp, host, program), [`matcher`] picks the patterns of its
//! program and reads the fields, [`rows`] does so for tables (CSV) and JSON, [`file`](mod@file) loads the patterns
//! from `parsers/*.toml`, [`reply`] reads what a next host answered.

pub mod dsn;
mod expression;
pub mod file;
pub mod frame;
pub mod matcher;
pub mod reply;
pub mod rows;

pub use matcher::{Matcher, Outcome, Parsed, Parsers};
