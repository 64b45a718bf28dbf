//! The index against the plain way: ask every hop about every other.

use super::*;
use crate::model::journey::{Lookup, trace};
use crate::model::record::{Client, Role, Stamp};
use crate::model::time::{Precision, SECOND};
use proptest::prelude::*;
use std::convert::Infallible;

fn stamp(seconds: i64) -> Stamp {
    Stamp { micros: seconds * SECOND, precision: Precision::Second }
}

fn recipient(address: &str, action: Action, to: Option<&str>, at: i64) -> Recipient {
    Recipient {
        action,
        status: "2.0.0".into(),
        remote_mta: to.map(str::to_string),
        last_attempt_date: Some(stamp(at)),
        attempts: 1,
        ..Recipient::untried(address.into(), address.into())
    }
}

fn record(role: Role, host: &str, id: usize, mail: &str, from: i64, until: i64, recipients: Vec<Recipient>) -> Record {
    Record {
        key: format!("{host}/{}/{id:06}", role.as_u8()),
        role,
        reporting_mta: host.into(),
        mta: "postfix".into(),
        instance: "postfix".into(),
        queue_id: Some(format!("{id:06}{host}")),
        arrival_date: stamp(from),
        last_event_date: stamp(until),
        closed: true,
        reply_id: None,
        report_id: None,
        reported_by: None,
        envelope: Vec::new(),
        bindings: Vec::new(),
        message_id: Some(mail.into()),
        envelope_id: None,
        envelope_from: None,
        size: None,
        recipient_count: None,
        client: Client::default(),
        auth_user: None,
        subject: None,
        orig_queue_id: None,
        notice_of: None,
        notices: vec![],
        verdict: None,
        remark: None,
        recipients,
        events: vec![],
    }
}

/// What [`Pool::join_by_message_id`] does, by asking every hop about every other.
fn join_plainly(pool: &mut Pool) {
    for to in 0..pool.hops.len() {
        if pool.edges.iter().any(|e| e.1 == to) {
            continue;
        }
        let c = &pool.hops[to];
        let reaches = |b: usize| {
            let (mut seen, mut todo) = (vec![], vec![to]);
            while let Some(n) = todo.pop() {
                if !seen.contains(&n) {
                    seen.push(n);
                    todo.extend(pool.edges.iter().filter(|e| e.0 == n).map(|e| e.1));
                }
            }
            seen.contains(&b)
        };
        let fits = |(from, p): &(usize, &Record)| *from != to && likely(pool, *from, p, to, c) && !reaches(*from);
        let apart = |p: &Record| (c.arrival_date.micros - p.last_event_date.micros).abs();
        if let Some((from, _)) = pool.hops.iter().enumerate().filter(fits).min_by_key(|(_, p)| apart(p)) {
            pool.edges.insert((from, to, By::MessageId));
            pool.fill_next(from, to);
        }
    }
}

fn likely(pool: &Pool, from: usize, p: &Record, to: usize, c: &Record) -> bool {
    let names = &pool.names[to];
    let soon = |when: i64| (c.arrival_date.micros - when).abs() <= LIKENESS_WINDOW;
    let redirected = |w: &Record, x: &Recipient| {
        soon(w.last_event_date.micros)
            && same_host(&w.reporting_mta, &c.reporting_mta)
            && x.redirected_to.as_deref().is_some_and(|to| names.has(to))
    };
    let told = |x: &Recipient| {
        let list = pool.witnesses.list();
        pool.witnesses.of_recipient(p, x).into_iter().any(|i| list[i].recipients.iter().any(|y| redirected(&list[i], y)))
    };
    let by_hand = |(n, x): (usize, &Recipient)| {
        x.action == Action::Relayed
            && soon(x.last_attempt_date.unwrap_or(p.last_event_date).micros)
            && !pool.next.contains_key(&(from, n))
            && names.has_recipient(x)
            && (names_host(x, &c.reporting_mta) || client_is(c, &p.reporting_mta) || client_is_relay(c, x))
    };
    p.message_id == c.message_id
        && (p.recipients.iter().enumerate().any(by_hand) || p.recipients.iter().any(|x| redirected(p, x) || told(x)))
}

fn pool(hops: &[Record], witnesses: &[Record], edges: &[HandOver]) -> Pool {
    let mut pool = Pool::default();
    pool.hops = hops.to_vec();
    pool.names = hops.iter().map(Names::of).collect();
    pool.witnesses = Witnesses::of(witnesses.to_vec());
    pool.edges = edges.iter().copied().collect();
    pool
}

const HOSTS: [&str; 4] = ["mx1", "mx1.example.test", "store.example.test", "store"];
const ADDRESSES: [&str; 4] = ["a@x.test", "A@X.test", "\"b c\"@x.test", "d@y.test"];
const ACTIONS: [Action; 4] = [Action::Relayed, Action::Relayed, Action::Delivered, Action::Delayed];

fn recipients() -> impl Strategy<Value = Vec<Recipient>> {
    let one = (0..4usize, 0..4usize, 0..4usize, 0..4usize, 0..8usize, 0..1500i64);
    prop::collection::vec(one, 0..4).prop_map(|list| {
        let each = |(original, last, action, to, redirected, at): (usize, usize, usize, usize, usize, i64)| {
            let mut p = recipient(ADDRESSES[original], ACTIONS[action], Some(HOSTS[to]), at);
            p.final_recipient = ADDRESSES[last].into();
            p.redirected_to = ADDRESSES.get(redirected).map(|a| a.to_string());
            p
        };
        list.into_iter().map(each).collect()
    })
}

/// Host, mail, first second, how long, recipients, client.
type Drawn = (usize, usize, i64, i64, Vec<Recipient>, usize);

fn records(role: Role) -> impl Strategy<Value = Vec<Record>> {
    let one = (0..4usize, 0..2usize, 0..1500i64, 0..900i64, recipients(), 0..8usize);
    prop::collection::vec(one, 0..9).prop_map(move |list| {
        let each = |(id, (host, mail, from, lasts, recipients, client)): (usize, Drawn)| {
            let mut r = record(role, HOSTS[host], id, ["one@x", "two@x"][mail], from, from + lasts, recipients);
            r.client.name = HOSTS.get(client).map(|h| h.to_string());
            r
        };
        list.into_iter().enumerate().map(each).collect()
    })
}

proptest! {
    #[test]
    fn the_index_finds_what_asking_everybody_finds(
        hops in records(Role::Hop), witnesses in records(Role::Witness), edges in prop::collection::vec((0..9usize, 0..9usize), 0..3),
    ) {
        let inside = |(a, b): &(usize, usize)| a != b && *a < hops.len() && *b < hops.len();
        let edges: Vec<HandOver> = edges.into_iter().filter(inside).map(|(a, b)| (a, b, By::QueueId)).collect();
        let (mut ours, mut plain) = (pool(&hops, &witnesses, &edges), pool(&hops, &witnesses, &edges));
        ours.join_by_message_id();
        join_plainly(&mut plain);
        prop_assert_eq!(ours.edges, plain.edges);
        prop_assert_eq!(ours.next, plain.next);
    }
}

struct All(Vec<Record>);

impl Lookup for All {
    type Error = Infallible;

    fn by_id(&mut self, id: &str) -> Result<Vec<Record>, Infallible> {
        Ok(self.0.iter().filter(|r| r.message_id.as_deref() == Some(id)).cloned().collect())
    }
}

#[test]
fn two_thousand_mails_of_one_message_id_are_joined_at_once() {
    let mut all = Vec::new();
    for n in 0..1000 {
        let at = n as i64 / 2;
        let relayed = recipient("a@x.test", Action::Relayed, Some("store.example.test"), at);
        all.push(record(Role::Hop, "mx1", n, "one@x", at, at, vec![relayed]));
        let delivered = recipient("a@x.test", Action::Delivered, None, at + 1);
        all.push(record(Role::Hop, "store", n, "one@x", at, at + 1, vec![delivered]));
    }
    let begun = std::time::Instant::now();
    let journeys = trace(&mut All(all), "one@x").unwrap();
    assert_eq!(journeys.iter().map(|j| j.records.len()).sum::<usize>(), 2000);
    assert_eq!(journeys.iter().map(|j| j.edges.len()).sum::<usize>(), 1000);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}
