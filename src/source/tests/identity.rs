use super::*;
use proptest::prelude::*;

const SMALL: BlockOptions = BlockOptions { block_size: 10_000, max_line: 1000 };

#[test]
fn unchanged_is_known_without_reading() {
    let place = Place::new();
    for how in ALL {
        let path = place.put("mail.log", &pack(how, &lines(3000, 1)));
        let known = Known::new(read_all(&path, SMALL).states);
        let mut opened = opened(&path);
        assert!(matches!(known.recall(&mut opened).unwrap(), Recall::Unchanged(s) if s.complete));
        assert!(opened.bytes.is_none());
        // not when it was not read to its end
        let half = known.states()[0].clone();
        assert!(!half.complete);
        assert_eq!(again(&Known::new(vec![half]), &path, SMALL).0, "prefix");
        fs::rename(&path, place.path("mail.log.1")).unwrap();
        assert_eq!(again(&known, &place.path("mail.log.1"), SMALL).0, "unchanged");
    }
}

#[test]
fn growth_is_read_from_where_it_began() {
    let place = Place::new();
    for count in [3, 300, 3000] {
        let old = lines(count, 2);
        let path = place.put("mail.log", &[&old[..], b"half a li"].concat());
        let first = read_all(&path, SMALL);
        assert_eq!((&first.bytes, &first.unterminated[..]), (&old, &b"half a li"[..]));
        let known = Known::new(vec![first.last()]);
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"ne\nmore\n").unwrap();
        let (said, all) = again(&known, &path, SMALL);
        assert_eq!((said, &all.bytes[..]), ("prefix", &b"half a line\nmore\n"[..]));
        let whole = read_all(&path, SMALL).last();
        assert_eq!(all.last(), whole);
    }
}

#[test]
fn a_compressed_log_is_the_log_it_was() {
    let place = Place::new();
    let text = lines(4000, 3);
    let path = place.put("mail.log.1", &text);
    let known = Known::new(vec![read_all(&path, SMALL).last()]);
    for how in ALL {
        let (said, all) = again(&known, &place.put("mail.log.2.x", &pack(how, &text)), SMALL);
        assert_eq!((said, all.bytes.len()), ("prefix", 0), "{how}");
        assert!(all.last().complete && all.last().length == text.len() as u64);
        // and with what was written after our last look
        let more = [&text[..], b"later\nlast"].concat();
        let (said, all) = again(&known, &place.put("mail.log.3.x", &pack(how, &more)), SMALL);
        let want = if how == Compression::Plain { &b"later\n"[..] } else { b"later\nlast" };
        assert_eq!((said, &all.bytes[..]), ("prefix", want), "{how}");
    }
}

#[test]
fn a_final_line_that_goes_on_is_read_anew() {
    let place = Place::new();
    for head in [b"".to_vec(), lines(2000, 4)] {
        let gz = place.put("a.gz", &pack(Compression::Gzip, &[&head[..], b"unfin"].concat()));
        let first = read_all(&gz, SMALL);
        assert_eq!(first.last().length, head.len() as u64 + 5);
        let known = Known::new(vec![first.last()]);
        let (said, all) = again(&known, &place.put("b.gz", &pack(Compression::Gzip, &[&head[..], b"unfin"].concat())), SMALL);
        assert_eq!((said, all.bytes.len()), ("prefix", 0));
        let path = place.put("a", &[&head[..], b"unfinished\nx\n"].concat());
        let (said, all) = again(&known, &path, SMALL);
        assert_eq!((said, &all.bytes[..]), ("prefix", &b"unfinished\nx\n"[..]));
        assert_eq!(all.last(), read_all(&path, SMALL).last());
    }
}

#[test]
fn others_are_not_taken_for_it() {
    let place = Place::new();
    let text = lines(4000, 5);
    let mut states = vec![read_all(&place.put("a", &text), SMALL).last()];
    states.push(read_all(&place.put("empty", b""), SMALL).last());
    let known = Known::new(states);
    let mut late = text.clone();
    late[100_000] = late[100_000].wrapping_add(1) | 0x40; // the same first 64 KiB
    let mut early = text.clone();
    early[10] = b'#';
    let shorter = &text[..memchr::memrchr(b'\n', &text[..90_000]).unwrap() + 1];
    for other in [&late[..], &early, shorter, b"", b"x", b"\n"] {
        for how in ALL {
            let (said, all) = again(&known, &place.put("b", &pack(how, other)), SMALL);
            assert_eq!(said, "new", "{how}");
            assert_eq!([&all.bytes[..], &all.unterminated].concat(), other, "{how}");
        }
    }
}

#[test]
fn truncated_and_grown_again_is_new() {
    let place = Place::new();
    let path = place.put("mail.log", &lines(3000, 6));
    let known = Known::new(read_all(&path, SMALL).states);
    let fresh = lines(5000, 7);
    fs::write(&path, &fresh).unwrap(); // the same inode, larger
    let (said, all) = again(&known, &path, SMALL);
    assert_eq!((said, all.bytes == fresh), ("new", true));
}

#[test]
fn the_longest_that_verifies_wins() {
    let place = Place::new();
    let text = lines(6000, 8);
    let states = read_all(&place.put("a", &text), SMALL).states;
    let mut other = text.clone();
    let at = 300_000;
    other[at] = if other[at] == b'\n' { b'\n' } else { b'~' };
    other[at + 1..at + 40].fill(b'~');
    for how in ALL {
        // all checkpoints of `a`; those before the difference hold
        let path = place.put("b", &pack(how, &other));
        let known = Known::new(states.clone());
        let mut opened = opened(&path);
        let Recall::Prefix(best) = known.recall(&mut opened).unwrap() else { panic!("{how}") };
        assert!(best.length <= at as u64 && best.length > at as u64 - 11_000, "{how} {}", best.length);
        let from = best.length as usize;
        let all = drain(Blocks::new(opened, SMALL).unwrap());
        assert_eq!(all.bytes, &other[from..], "{how}");
        assert_eq!(all.last().hash, read_all(&path, SMALL).last().hash);
        assert_eq!(all.last().lines, memchr::memchr_iter(b'\n', &other).count() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Read part of a file, keep a checkpoint, come back to it grown and however compressed: what
    /// both runs consumed is the whole, and the final state is that of one run.
    #[test]
    fn checkpoint_and_resume_equal_one_run(
        text in proptest::collection::vec(prop_oneof![3 => Just(b'\n'), 10 => b'a'..b'd', 1 => Just(b'\r')], 0..400),
        cut in 0usize..400, stop in 0usize..30, size in 1usize..64, max_line in 1usize..40,
        then in 0usize..5, now in 0usize..5,
    ) {
        let place = Place::new();
        let options = small(size, max_line);
        let before = &text[..cut.min(text.len())];
        let (was, is) = (ALL[then], ALL[now]);
        let mut first = Blocks::new(opened(&place.put("a", &pack(was, before))), options).unwrap();
        let mut got = Vec::new();
        let mut consumed = 0;
        for _ in 0..stop {
            let Some(block) = first.next().unwrap() else { break };
            if !block.unterminated {
                got.push((block.offset, block.bytes));
                consumed = first.consumed();
            }
        }
        let json = serde_json::to_string(&first.state().unwrap()).unwrap();
        let known = Known::new(vec![serde_json::from_str(&json).unwrap()]);
        prop_assert_eq!(known.states()[0].length, consumed);
        let path = place.put("b", &pack(is, &text));
        let mut resumed = opened(&path);
        let recall = known.recall(&mut resumed).unwrap();
        prop_assert_eq!(matches!(recall, Recall::Prefix(_)), consumed > 0);
        let from = resumed.resume_offset();
        got.retain(|(offset, _)| *offset < from);
        let mut rest = Blocks::new(resumed, options).unwrap();
        let mut whole = Blocks::new(opened(&path), options).unwrap();
        let lines_of = |blocks: &mut Blocks| {
            let mut out = Vec::new();
            while let Some(b) = blocks.next().unwrap() {
                out.push((b.offset, b.bytes));
            }
            out
        };
        got.extend(lines_of(&mut rest));
        let join = |blocks: Vec<(u64, Vec<u8>)>| blocks.into_iter().flat_map(|b| b.1).collect::<Vec<u8>>();
        prop_assert_eq!(join(got), join(lines_of(&mut whole)));
        // (What a compressed file's last line counted stays counted if the plain file is no longer.)
        if text.ends_with(b"\n") || is != Compression::Plain || was == Compression::Plain {
            prop_assert_eq!(rest.state(), whole.state());
        }
    }
}
