//! All integration tests, in one binary.
#![allow(missing_docs)]

mod fold;
mod support;
