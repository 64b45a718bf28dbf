//! MTQP (RFC 3887): the protocol's text, its server and its client.
//!
//! [`command`], [`reply`], [`session`] and [`uri`] do no I/O (R5).

pub mod command;
pub mod reply;
pub mod session;
pub mod uri;

#[cfg(test)]
mod tests;
