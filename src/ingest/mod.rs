//! Wires source to store: read, parse (in parallel), fold (in order), commit.

pub mod backfill;
mod commit;
pub mod fold;
pub mod parse_block;
