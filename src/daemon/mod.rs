//! What runs for months: one writer of the index, everybody else through it.
//!
//! ```text
//! live loop  --work-->  writer thread  --commit-->  index
//!     |                     ^                          ^
//!     v (open records)      | work                     | read
//!   View  <---by_id---  control socket  <--- backfill, grant, trace ... of other processes
//! ```
//!
//! What goes wrong around it is told once with its path and its consequence, is visible in `msgtrk status` and the metrics,
//! and ends by itself. A wall clock that jumps ends nothing: all that waits goes by the monotonic clock; stamps without a
//! year are dated by their file's time of change, up to a day behind it; for retention a jump ahead counts only after
//! it has lasted a day ([`crate::ingest::wall`]).
//!
//! * [`writer`]: the one thread that commits. Work of the live loop is kept until it is stored, whatever happens;
//!   work of others succeeds or fails at once.
//! * [`control`]: the socket in the index folder through which other processes of the same user read open records and
//!   hand in finished work. A client reads its logs itself, with its own rights and at its own priority, so that a
//!   hardened daemon needs to see none of them.
//! * [`figures`]: counters, what `msgtrk status` and Prometheus are told.
//! * [`metrics`]: figures over HTTP.
//! * [`querylog`]: who asked what.
//! * [`tracker`]: what the MTQP server asks.
//! * [`systemd`]: readiness and watchdog.

pub mod control;
pub mod figures;
pub mod metrics;
pub mod querylog;
pub mod systemd;
pub mod tracker;
pub mod writer;

#[cfg(test)]
mod tests;
