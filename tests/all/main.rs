//! All integration tests, in one binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod fold;
mod hostile;
mod inputs;
mod smtp;
mod structure;
mod support;
mod truth;
