//! Wires source to store: read, parse (in parallel), fold (in order), commit.

pub mod backfill;
pub mod bind;
pub mod commit;
mod fold;
pub mod inbox;
pub mod parse_block;
