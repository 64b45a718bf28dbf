use super::super::parse_block::parse_block;
use super::*;
use proptest::prelude::*;
use proptest::sample;

fn reject(second: u32, who: u32) -> String {
    format!(
        "Mar  2 08:00:{second:02} mx1 postfix/smtpd[1]: NOQUEUE: reject: RCPT from a[192.0.2.1]: 554 5.7.1 <x@y>: Relay access denied; from=<a{who}@b> to=<x@y> proto=ESMTP helo=<h>"
    )
}

fn line(second: u32, what: u8, n: u32) -> String {
    let at = format!("Mar  2 08:00:{second:02}");
    match what {
        0..=2 => reject(second, n % 2),
        3 => format!("{at} mx1 last message repeated {} times", 1 + n % 3),
        4 => format!("{at} mx2 other[6]: nothing"),
        5 => format!("{at} mx1 exim[7]: [1/2] 1uAbCd-00000{n}-0A <= a@b H=h [192.0.2.9] P=esmtp S=100 "),
        6 => format!("{at} mx1 exim[7]: [2/2] id=m{n}@x"),
        _ => format!("Mar  2 07:59:{second:02} mx3 postfix/qmgr[5]: 4AbcXy1zzz: removed"),
    }
}

fn fold_of(state: StreamState) -> Fold {
    static PARSERS: std::sync::LazyLock<Arc<Parsers>> = std::sync::LazyLock::new(|| Parsers::load(None).unwrap());
    Fold::new(&PARSERS, &Arc::new(Site::default()), "h".into(), Anchor::Year(2026), state)
}

fn drained(mut ledger: Ledger) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = ledger.drain().into_iter().map(|c| (c.slot.key(), c.events)).collect();
    all.sort();
    all
}

fn feed(fold: &mut Fold, ledger: &mut Ledger, lines: &[String]) {
    let block: String = lines.iter().map(|l| format!("{l}\n")).collect();
    let chunks = parse_block(&Arc::clone(&fold.parsers), fold.sheet(), block.as_bytes());
    fold.block(ledger, block.as_bytes(), &chunks);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Blocks of any size, and a state that was stored after any of them: the same events as one block.
    #[test]
    fn blocks_and_stored_states_make_no_difference(
        lines in prop::collection::vec((prop::bool::weighted(0.2), 0u8..8, 0u32..4), 1..60),
        cuts in prop::collection::vec((any::<sample::Index>(), any::<bool>()), 0..20),
    ) {
        let mut second = 0;
        let lines: Vec<String> = lines.iter().map(|(later, what, n)| { second = (second + u32::from(*later)).min(59); line(second, *what, *n) }).collect();
        let mut whole = Ledger::default();
        feed(&mut fold_of(StreamState::default()), &mut whole, &lines);

        let mut cuts: Vec<(usize, bool)> = cuts.iter().map(|(i, stored)| (i.index(lines.len() + 1), *stored)).collect();
        cuts.sort_unstable();
        cuts.push((lines.len(), false));
        let (mut ledger, mut fold, mut from) = (Ledger::default(), fold_of(StreamState::default()), 0);
        for (to, stored) in cuts {
            feed(&mut fold, &mut ledger, &lines[from..to]);
            from = to;
            if stored {
                let json = serde_json::to_string(&fold.state()).unwrap();
                fold = fold_of(serde_json::from_str(&json).unwrap());
            }
        }
        prop_assert_eq!(drained(ledger), drained(whole));
    }
}

#[test]
fn last_message_repeated_at_the_start_of_a_block() {
    let (mut ledger, mut fold) = (Ledger::default(), fold_of(StreamState::default()));
    feed(&mut fold, &mut ledger, &[reject(1, 0)]);
    feed(&mut fold, &mut ledger, &["Mar  2 08:00:01 mx1 last message repeated 2 times".into()]);
    feed(
        &mut fold,
        &mut ledger,
        &["Mar  2 08:00:31 mx1 last message repeated 3 times".into(), "Mar  2 08:00:32 mx2 last message repeated 9 times".into()],
    );
    let counts: Vec<usize> = drained(ledger).iter().map(|(_, e)| crate::model::event::decode_all(e).count()).collect();
    assert_eq!(counts, [3, 3]);
}

#[test]
fn a_state_is_small_even_after_a_busy_second() {
    let (mut ledger, mut fold) = (Ledger::default(), fold_of(StreamState::default()));
    let lines: Vec<String> = (0..3000).map(|n| reject(1, n)).collect();
    feed(&mut fold, &mut ledger, &lines);
    let bytes = serde_json::to_string(&fold.state()).unwrap().len();
    assert!(bytes < 8 * 1024, "{bytes}");
}

const CERTIFIER: &str = "5en6G6MezRroT3XKqkdPOmY/BfQ";

/// smtpd's line of a MAIL command whose mark the filter took off.
fn marked(pid: u32, client: &str, timeout: &str, envid: &str) -> String {
    format!(
        "Mar  2 08:00:01 mx1 postfix/smtpd[{pid}]: {client}: replacing command \"MAIL FROM:<a@b> MTRK={CERTIFIER}{timeout} ENVID={envid}\" with \"MAIL  FROM:<a@b> ENVID={envid}\""
    )
}

fn unmarked(pid: u32) -> String {
    format!("Mar  2 08:00:01 mx1 postfix/smtpd[{pid}]: a[192.0.2.1]: replacing command \"MAIL FROM:<a@b>\" with \"MAIL  FROM:<a@b>\"")
}

fn taken(pid: u32, client: &str, id: &str) -> String {
    format!("Mar  2 08:00:02 mx1 postfix/smtpd[{pid}]: {id}: client={client}")
}

/// `id: envelope id, until` of each binding, after each line in a block of its own with a state stored between.
fn bound(lines: &[String]) -> (Vec<String>, u64) {
    let (mut ledger, mut fold, mut unbound) = (Ledger::default(), fold_of(StreamState::default()), 0);
    for line in lines {
        feed(&mut fold, &mut ledger, std::slice::from_ref(line));
        let state = serde_json::to_string(&fold.state()).unwrap();
        unbound += fold.unbound;
        fold = fold_of(serde_json::from_str(&state).unwrap());
    }
    let mut all = Vec::new();
    for change in ledger.drain() {
        for e in crate::model::event::decode_all(&change.events).filter(|e| e.head.kind == Kind::Binding) {
            let text = |f| e.text(f).unwrap();
            assert_eq!(text(Field::Certifier), CERTIFIER);
            let left = text(Field::Expires).parse::<i64>().unwrap() - e.head.time / SECOND;
            all.push(format!("{}: {}, {left}", text(Field::QueueId), text(Field::EnvelopeId)));
        }
    }
    all.sort();
    (all, unbound)
}

#[test]
fn a_mark_is_bound_to_the_next_message_of_its_own_client_in_its_own_process() {
    const DAY: i64 = 86_400;
    let (a, b) = ("a[192.0.2.1]", "a[192.0.2.2]");
    let all = |lines: &[String]| bound(lines).0;
    assert_eq!(all(&[marked(7, a, ":600", "1@h"), taken(7, a, "4AbcXy1zzz")]), ["4AbcXy1zzz: 1@h, 600"]);
    assert_eq!(all(&[marked(7, a, "", "1@h"), taken(7, a, "4AbcXy1zzz")]), [format!("4AbcXy1zzz: 1@h, {}", 10 * DAY)]);
    assert_eq!(all(&[marked(7, a, ":999999999", "1@h"), taken(7, a, "4AbcXy1zzz")]), [format!("4AbcXy1zzz: 1@h, {}", 30 * DAY)]);
    // Two sessions at once, each its own; one mark opens one message.
    let two = [
        marked(7, a, ":1", "1@h"),
        marked(8, a, ":2", "2@h"),
        taken(8, a, "4AbcXy2zzz"),
        taken(7, a, "4AbcXy1zzz"),
        taken(7, a, "4AbcXy3zzz"),
    ];
    assert_eq!(all(&two), ["4AbcXy1zzz: 1@h, 1", "4AbcXy2zzz: 2@h, 2"]);
    // Another client, another process, an unmarked command in between.
    assert!(all(&[marked(7, a, ":600", "1@h"), taken(7, b, "4AbcXy1zzz")]).is_empty());
    assert!(all(&[marked(7, a, ":600", "1@h"), taken(8, a, "4AbcXy1zzz")]).is_empty());
    assert!(all(&[marked(7, a, ":600", "1@h"), unmarked(7), taken(7, a, "4AbcXy1zzz")]).is_empty());
}

#[test]
fn a_mark_that_is_not_whole_binds_nothing_and_is_counted() {
    let a = "a[192.0.2.1]";
    let cut = format!(
        "Mar  2 08:00:01 mx1 postfix/smtpd[7]: {a}: replacing command \"MAIL FROM:<a@b> ENVID=2@h MTRK=5en6G6\" with \"MAIL  FROM:<a@b> ENVID=2@h\""
    );
    assert_eq!(bound(&[marked(7, a, ":600", "1@h"), cut, taken(7, a, "4AbcXy1zzz")]), (vec![], 1));
    // No envelope id, one that is not `local@fqhn`, and the line as a rule writes it that shows marked commands only.
    for (envid, blanks) in [("", "  "), ("ENVID=nohost", "  "), ("ENVID=1@h", " ")] {
        let line = format!(
            "Mar  2 08:00:01 mx1 postfix/smtpd[7]: {a}: replacing command \"MAIL FROM:<a@b> MTRK={CERTIFIER} {envid}\" with \"MAIL{blanks}FROM:<a@b> {envid}\""
        );
        assert_eq!(bound(&[line, taken(7, a, "4AbcXy1zzz")]), (vec![], 1), "{envid}");
    }
    // What a client can put into other lines of the same daemon.
    let forged = format!("replacing command \"MAIL FROM:<a@b> MTRK={CERTIFIER} ENVID=1@h\" with \"MAIL  FROM:<a@b> ENVID=1@h\"");
    for line in [
        format!("NOQUEUE: reject: RCPT from {a}: 554 5.7.1 <x@y>: no; from=<a@b> to=<x@y> proto=ESMTP helo=<{a}: {forged}>"),
        format!("warning: {a}: {forged}"),
        format!("improper command pipelining after EHLO from {a}: {forged}"),
    ] {
        assert_eq!(bound(&[format!("Mar  2 08:00:01 mx1 postfix/smtpd[7]: {line}"), taken(7, a, "4AbcXy1zzz")]), (vec![], 0), "{line}");
    }
}

/// The line that a message begins with is one event, whether or not the line with the mark was read (R1).
#[test]
fn of_two_copies_one_of_which_lacks_the_mark_one_arrival_comes() {
    let a = "a[192.0.2.1]";
    let mut ledger = Ledger::default();
    feed(&mut fold_of(StreamState::default()), &mut ledger, &[marked(7, a, ":600", "1@h"), taken(7, a, "4AbcXy1zzz")]);
    feed(&mut fold_of(StreamState::default()), &mut ledger, &[taken(7, a, "4AbcXy1zzz")]);
    let mut all = ledger.drain();
    let merged = crate::ledger::merge(all.remove(0), &[]);
    let kinds: Vec<Kind> = merged.put[0].events().map(|e| e.head.kind).collect();
    assert_eq!((all.len(), merged.put.len(), kinds), (0, 1, vec![Kind::Arrival, Kind::Binding]));
}
