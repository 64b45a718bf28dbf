//! The gateways as the program runs them: before a scripted MTA always, before real ones where they are installed.

mod cost;
pub mod daemon;
mod exim;
mod logged;
mod outbound;
mod peers;
mod postfix;
mod real;
mod scripted;
mod submit;
