//! All integration tests, in one binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod fold;
mod hostile;
mod inputs;
mod mtqp;
mod mtqp_chain;
mod mtqp_fuzz;
mod mtqp_support;
mod mtqp_tls;
mod smtp;
mod structure;
mod support;
mod truth;
