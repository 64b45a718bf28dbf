//! The end of a message, and what only some take for it.

use crate::smtp::data::{Content, Found};
use proptest::prelude::*;

fn feed(bytes: &[u8], size: usize) -> (Vec<u8>, usize, Found) {
    let (mut content, mut out, mut taken) = (Content::default(), Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let (n, found) = content.feed(piece, &mut out);
        taken += n;
        if found != Found::More {
            return (out, taken, found);
        }
    }
    (out, taken, Found::More)
}

#[test]
fn only_cr_lf_dot_cr_lf_ends_a_message() {
    for text in
        ["a\r\n.\r\n", ".\r\n", "\r\n..\r\n.\r\n", "a\nb\rc\0d\r\n.\r\n", "a\r\r\n.\r\n", "..\r\n.x\r\n.\r\n", "a\n..\r\nb\n.x\r\n.\r\n"]
    {
        let whole = [text.as_bytes(), b"QUIT\r\n"].concat();
        for size in 1..=whole.len() {
            let (out, taken, found) = feed(&whole, size);
            assert_eq!((out.as_slice(), taken, found), (text.as_bytes(), text.len(), Found::End), "{text:?} by {size}");
        }
    }
}

/// The forms of the research of 2023 (SMTP smuggling), and their like.
#[test]
fn lone_dots_between_odd_line_ends_are_refused_before_they_are_passed_on() {
    for end in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r.\r\n",
        "\r\n.\r",
        "\n.\r",
        "\r.\n",
        "\r\n\0.\r\n",
        "\r\n.\0\r\n",
        "\r\0\n.\r\n",
        "\n\0.\0\n",
        "\r\n.\r\r\n",
    ] {
        let text = format!("a{end}MAIL FROM:<evil@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nb\r\n.\r\n");
        for size in 1..=12 {
            let (out, _, found) = feed(text.as_bytes(), size);
            assert_eq!(found, Found::Smuggled, "{end:?} by {size}");
            assert!(!out.contains(&b'.') && !out.contains(&b'M'), "{end:?}: {}", out.escape_ascii());
        }
    }
}

/// What any known server might take for an end: a dot alone between CRs, LFs and NULs.
fn ends_for_somebody(text: &[u8]) -> bool {
    let plain: Vec<u8> = text.iter().copied().filter(|b| *b != 0).map(|b| if b == b'\r' { b'\n' } else { b }).collect();
    plain.starts_with(b".\n") || plain.windows(3).any(|w| w == b"\n.\n")
}

proptest! {
    #[test]
    fn nothing_passed_on_ends_for_anybody_before_the_end(text in proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'\r'), Just(b'\n'), Just(0u8), Just(b'a')], 0..40), size in 1usize..8) {
        let (out, taken, found) = feed(&text, size);
        let before_end = if found == Found::End { &out[..out.len() - 3] } else { &out[..] };
        prop_assert!(!ends_for_somebody(before_end), "{}", out.escape_ascii());
        prop_assert!(text.starts_with(&out));
        match found {
            Found::End => prop_assert_eq!(&text[..taken], &out[..]),
            Found::More => prop_assert!(text.len() - out.len() < 80),
            Found::Smuggled => {}
        }
    }
}
