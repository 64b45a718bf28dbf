//! All integration tests, in one binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod cases;
mod descriptors;
mod dns;
mod fold;
mod fuzz;
mod hostile;
mod inputs;
mod keep;
mod mtas;
mod mtqp;
mod mtqp_chain;
mod mtqp_support;
mod mtqp_tls;
mod open;
mod pieces;
mod readers;
mod reports;
mod requirements;
mod serve;
mod serve_faults;
mod serve_support;
mod smtp;
mod structure;
mod structured;
mod support;
mod truth;
