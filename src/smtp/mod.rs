//! The SMTP side of message tracking (RFC 3885).
pub mod binding;
pub mod client;
pub mod command;
pub mod config;
pub mod data;
pub mod hosts;
pub mod net;
pub mod outbound;
pub mod proxy;
pub mod reply;
pub mod server;
pub mod session;
pub mod start;
#[cfg(test)]
mod tests;
