//! All integration tests, in one binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod cases;
mod fold;
mod hostile;
mod inputs;
mod open;
mod pieces;
mod readers;
mod serve;
mod structure;
mod structured;
mod support;
mod truth;
