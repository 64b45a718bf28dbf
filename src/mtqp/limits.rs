//! Who may come in, and how long a failed TRACK takes (BAR N3, N4).

use super::addresses::client_of;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts connections, in all and by client.
#[derive(Debug)]
pub struct Gate {
    most: usize,
    most_per_client: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    gate: Arc<Gate>,
    client: IpAddr,
}

impl Gate {
    /// A gate with these bounds.
    pub fn new(most: usize, most_per_client: usize) -> Arc<Self> {
        Arc::new(Gate { most, most_per_client, open: Mutex::new(HashMap::new()) })
    }

    /// A place for a connection from `ip`; `None` when there is none.
    pub fn enter(self: &Arc<Self>, ip: &IpAddr) -> Option<Ticket> {
        let client = client_of(ip);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let mine = open.get(&client).copied().unwrap_or(0);
        if all >= self.most || mine >= self.most_per_client {
            return None;
        }
        open.insert(client, mine + 1);
        Some(Ticket { gate: self.clone(), client })
    }

    /// Connections that are open.
    pub fn len(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = open.get_mut(&self.client) {
            *n -= 1;
            if *n == 0 {
                open.remove(&self.client);
            }
        }
    }
}

/// Failed TRACKs by client: each costs more time than the one before, and an hour of quiet forgets them.
#[derive(Debug)]
pub struct Failures {
    least: Duration,
    most: Duration,
    seen: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

/// Clients that are remembered.
const MOST_CLIENTS: usize = 10_000;
/// One failure is forgotten in this time.
const FORGET: Duration = Duration::from_secs(120);
/// Failures that cost the least time only: a person who mistypes.
const FREE: u32 = 3;

impl Failures {
    /// Delays between `least` and `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Failures { least, most: most.max(least), seen: Mutex::new(HashMap::new()) }
    }

    /// Counts a failure and says how long its answer takes, from the command on.
    pub fn delay(&self, ip: &IpAddr, now: Instant) -> Duration {
        let client = client_of(ip);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |(n, at): (u32, Instant)| {
            let gone = now.saturating_duration_since(at).as_secs() / FORGET.as_secs();
            n.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX))
        };
        let count = seen.get(&client).map_or(0, |e| left(*e)).saturating_add(1);
        if seen.len() >= MOST_CLIENTS && !seen.contains_key(&client) {
            seen.retain(|_, e| left(*e) > FREE);
            // All of them busy: begin anew rather than grow.
            if seen.len() >= MOST_CLIENTS {
                seen.clear();
            }
        }
        seen.insert(client, (count, now));
        let doubled = self.least.saturating_mul(1u32.checked_shl(count.saturating_sub(FREE).min(20)).unwrap_or(u32::MAX));
        doubled.clamp(self.least, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn n3_places_are_counted_in_all_and_by_ipv6_network() {
        let gate = Gate::new(3, 2);
        let a = gate.enter(&ip("2001:db8:1:2::1")).unwrap();
        let _b = gate.enter(&ip("2001:db8:1:2::2")).unwrap();
        assert!(gate.enter(&ip("2001:db8:1:2:ffff::3")).is_none());
        let _c = gate.enter(&ip("192.0.2.1")).unwrap();
        assert!(gate.enter(&ip("192.0.2.2")).is_none());
        drop(a);
        assert!(gate.enter(&ip("2001:db8:1:2::9")).is_some());
        assert_eq!(gate.len(), 2);
    }

    #[test]
    fn n4_failures_of_one_client_take_longer_and_longer_and_are_forgotten() {
        let f = Failures::new(Duration::from_millis(50), Duration::from_secs(2));
        let t = Instant::now();
        let of = |a: &str, t| f.delay(&ip(a), t).as_millis();
        let first: Vec<u128> = (0..10).map(|_| of("192.0.2.1", t)).collect();
        assert_eq!(first, [50, 50, 50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(of("192.0.2.2", t), 50);
        assert_eq!(of("192.0.2.1", t + Duration::from_secs(3600)), 50);
        for n in 0..30_000u32 {
            f.delay(&IpAddr::from(n.to_be_bytes()), t);
        }
        assert!(f.seen.lock().unwrap().len() <= MOST_CLIENTS);
    }
}
