//! Tests of more than one file's worth.

mod session;
