//! What time it is, and how far that is believed.
//!
//! Whatever waits or repeats goes by the monotonic clock. The wall clock, which may jump, says three things only: the
//! latest year that a stamp without one can mean, how long ago a line was written, and what is too old to be kept. The
//! last one cannot be taken back: a clock that is set a year ahead by mistake would have the whole index dropped and
//! every line left out. So for that a jump ahead is not believed before it has lasted a day; one back is at once, since
//! then more is kept.

use crate::source::live::Now;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ahead of what the monotonic clock makes of it by so much is a jump: more than clocks drift between two looks.
const JUMP: Duration = Duration::from_secs(3600);
/// A jump that lasts so long is the truth.
const BELIEVED: Duration = Duration::from_secs(86_400);

/// The two clocks of a process.
pub struct WallClock {
    wall: Now,
    monotonic: Box<dyn Fn() -> Instant + Send + Sync>,
    held: Mutex<Held>,
}

struct Held {
    /// When the wall clock was believed last, and what it said.
    at: Instant,
    micros: i64,
    /// Since when it is not, and what that means, in words.
    doubted: Option<(Instant, String)>,
}

impl WallClock {
    /// From what reads the wall clock (microseconds since 1970) and the monotonic one.
    pub fn new(wall: Now, monotonic: impl Fn() -> Instant + Send + Sync + 'static) -> Arc<WallClock> {
        let held = Held { at: monotonic(), micros: wall(), doubted: None };
        Arc::new(WallClock { wall, monotonic: Box::new(monotonic), held: Mutex::new(held) })
    }

    /// The system's.
    pub fn system() -> Arc<WallClock> {
        WallClock::new(crate::source::live::wall_clock(), Instant::now)
    }

    /// What is wrong with the wall clock, as of the latest [`WallClock::believed`].
    pub fn doubt(&self) -> Option<String> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).doubted.as_ref().map(|(_, text)| text.clone())
    }

    /// What the wall clock says, microseconds since 1970.
    pub fn now(&self) -> i64 {
        (self.wall)()
    }

    /// The time by which retention goes, microseconds since 1970: the wall clock's, but for a jump ahead that has not lasted.
    pub fn believed(&self) -> i64 {
        let (wall, now) = (self.now(), (self.monotonic)());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        let due = held.micros.saturating_add(micros(now.saturating_duration_since(held.at)));
        let lasted = held.doubted.as_ref().is_some_and(|(since, _)| now.saturating_duration_since(*since) >= BELIEVED);
        if lasted || wall <= due.saturating_add(micros(JUMP)) {
            if held.doubted.is_some() {
                tracing::info!("retention goes by the clock again");
            }
            *held = Held { at: now, micros: wall, doubted: None };
            return wall;
        }
        if held.doubted.is_none() {
            let hours = wall.saturating_sub(due) as f64 / 3.6e9;
            let text =
                format!("the clock has jumped {hours:.0} hours ahead: nothing is dropped or left out for that before it has lasted a day");
            tracing::warn!("{text}");
            held.doubted = Some((now, text));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

    #[test]
    fn a_jump_ahead_counts_after_a_day_and_one_back_at_once() {
        const HOUR: i64 = 3_600_000_000;
        let (wall, passed) = (Arc::new(AtomicI64::new(1000 * HOUR)), Arc::new(AtomicI64::new(0)));
        let (w, p, begun) = (Arc::clone(&wall), Arc::clone(&passed), Instant::now());
        let clock = WallClock::new(Arc::new(move || w.load(SeqCst)), move || begun + Duration::from_micros(p.load(SeqCst) as u64));
        let pass = |hours: i64| {
            passed.fetch_add(hours * HOUR, SeqCst);
            wall.fetch_add(hours * HOUR, SeqCst);
        };
        pass(30);
        assert_eq!(clock.believed(), 1030 * HOUR, "time that passes is no jump");
        wall.fetch_add(9000 * HOUR, SeqCst);
        assert_eq!((clock.believed(), clock.now()), (1030 * HOUR, 10_030 * HOUR));
        assert!(clock.doubt().unwrap().contains("9000 hours ahead"), "{:?}", clock.doubt());
        pass(23);
        assert_eq!(clock.believed(), 1053 * HOUR, "and it goes on meanwhile");
        wall.fetch_sub(9000 * HOUR, SeqCst);
        assert_eq!((clock.believed(), clock.doubt()), (1053 * HOUR, None));
        wall.fetch_add(100 * HOUR, SeqCst);
        pass(1);
        assert_eq!(clock.believed(), 1054 * HOUR, "another jump has a day of its own");
        pass(24);
        assert_eq!(clock.believed(), 1178 * HOUR);
        wall.fetch_sub(500 * HOUR, SeqCst);
        assert_eq!(clock.believed(), 678 * HOUR);
    }
}
