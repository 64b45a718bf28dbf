//! Plain data and pure functions; imports nothing of ours and does no I/O.
//!
//! [`line`](mod@line) is a stamp as written, [`event`] is what one line says, [`record`] what is known about a message at one MTA,
//! [`derive`](mod@derive) computes the one from the other, [`incarnation`] tells apart messages that
//! had the same queue id, [`query`] is what is asked for, [`journey`] what is answered, [`direction`] tells inbound from
//! outbound, [`redact`] takes people out of what is stored.

mod binding;
pub mod derive;
pub mod direction;
pub mod event;
pub mod incarnation;
pub mod journey;
pub mod line;
pub mod query;
pub mod record;
pub mod redact;
pub mod status;
pub mod time;
pub(crate) mod varint;
