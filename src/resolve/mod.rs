//! What needs the order of one source: year and zone of a stamp ([`clock`]), equal lines and split entries ([`order`]),
//! lines that name a session instead of the message ([`sessions`]).

pub mod clock;
pub mod order;
pub mod sessions;
