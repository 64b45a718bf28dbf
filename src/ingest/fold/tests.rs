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
    let parsers = Parsers::load(None).unwrap();
    Fold::new(&parsers, &Arc::new(Site::default()), "h".into(), Anchor::Year(2026), state)
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
