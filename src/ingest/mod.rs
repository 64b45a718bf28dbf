//! Wires source to store: read, parse (in parallel), fold (in order), commit.

pub mod backfill;
mod commit;
pub mod fold;
mod join;
pub mod parse_block;
