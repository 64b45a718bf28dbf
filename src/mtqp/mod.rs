//! MTQP (RFC 3887): the protocol's text, its server and its client.
//!
//! [`command`], [`reply`], [`session`] and [`uri`] do no I/O (R5).

pub mod addresses;
pub mod answer;
pub mod chain;
pub mod client;
pub mod command;
pub mod config;
mod connection;
pub mod limits;
pub mod names;
pub mod reply;
pub mod server;
pub mod session;
pub mod tls;
pub mod tracker;
pub mod uri;

#[cfg(test)]
mod tests;
