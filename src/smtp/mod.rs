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

/// What the fuzz target and its twin among the tests do: bytes of both sides in any order; nothing panics, buffers stay
/// bounded, and nothing passed to the backend as content holds a second end of a message.
#[doc(hidden)]
pub fn fuzz(moves: &[(bool, Vec<u8>)]) {
    use session::{Policy, Session, Step};
    let mut s = Session::new(Policy { starttls: true, ..Policy::default() }, false);
    for (n, (client, bytes)) in moves.iter().enumerate() {
        match client {
            true if s.wants_client() => s.client(bytes, n as i64),
            false if s.wants_backend() => s.backend(bytes, n as i64),
            _ => {}
        }
        let most = session::MAX_BUFFER + session::MAX_DUE * (command::MAX_AUTH_LINE + 2) + bytes.len();
        assert!(s.to_backend().len() <= most);
        s.to_backend().clear();
        s.to_client().clear();
        s.drained(n as i64);
        while let Some(step) = s.step() {
            if step == Step::StartTls {
                s.secured();
            }
        }
    }
    s.client_eof();
    s.backend_eof();
}
