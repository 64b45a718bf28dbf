//! What needs the order of one source: year and zone of a stamp ([`clock`]), equal lines and split entries ([`order`]).

pub mod clock;
pub mod order;
