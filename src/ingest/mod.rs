//! Wires source to store: read, parse (in parallel), fold (in order), commit.

pub mod backfill;
pub mod bind;
pub mod commit;
pub mod fold;
mod join;
pub mod live;
pub mod mail;
pub mod open;
pub mod parse_block;
pub mod positions;
pub mod retention;
pub mod wall;
