//! Wires source to store: read, parse (in parallel), fold (in order), commit.

pub mod backfill;
mod commit;
mod fold;
pub mod mail;
pub mod parse_block;
