use super::*;
use proptest::prelude::*;

/// Groups by an expression that is not split.
fn plainly(pattern: &str, text: &[u8]) -> Option<Vec<Option<(usize, usize)>>> {
    let regex = compile(pattern).unwrap();
    let mut slots = vec![None; regex.captures_len() * 2];
    regex.search_slots(&anchored(text), &mut slots)?;
    Some(slots.chunks(2).skip(1).map(|s| Some((s[0]?.get(), s[1]?.get()))).collect())
}

fn split(pattern: &str, text: &[u8]) -> Option<Vec<Option<(usize, usize)>>> {
    let e = Expression::new(pattern).unwrap();
    let (mut cache, mut slots) = (None, Vec::new());
    let found = e.groups(&mut cache, text, &mut slots);
    assert_eq!(found, e.is_match(&mut cache, text));
    found.then(|| slots.chunks(2).skip(1).map(|s| Some((s[0]?.get(), s[1]?.get()))).collect())
}

const ENDINGS: &[&str] = &[
    r"^a\((.*)\)$",
    r"^(a*)(b?)ab$",
    r"^(.*?)b\)$",
    r"^(?:(a)|(.*))aa$",
    r"^(a|b|\()*b\)$",
    r"^(.*)$",
    r"^(.*)\)",
    r"^a(b)*$",
    r"^(?:a|b\()a?\(",
    r"^(?:ab|a$)b",
];

proptest! {
    #[test]
    fn fixed_text_at_the_end_makes_no_difference(text in "[ab()]{0,9}") {
        for pattern in ENDINGS {
            prop_assert_eq!(split(pattern, text.as_bytes()), plainly(pattern, text.as_bytes()), "{} {}", pattern, &text);
        }
    }

    #[test]
    fn what_is_known_without_running_it_is_so(text in "(relay=|, x|@a>|, orig)*") {
        for pattern in [r"^.*relay=.*@[^@>]+>.*relay=", r"^(?:, orig)?.*relay=", r"relay=, orig"] {
            let e = Expression::new(pattern).unwrap();
            prop_assert_eq!(e.occurs_in(text.as_bytes()), compile(pattern).unwrap().is_match(text.as_bytes()), "{} {}", pattern, &text);
        }
    }
}

/// Whether groups are found in one pass.
fn one_pass(pattern: &str) -> bool {
    let (hir, _) = split_tail(syntax::parse_with(pattern, &syntax()).unwrap());
    let nfa = regex_automata::nfa::thompson::Compiler::new().build_from_hir(&hir).unwrap();
    regex_automata::dfa::onepass::DFA::new_from_nfa(nfa).is_ok()
}

#[test]
fn the_commonest_lines_are_read_in_one_pass() {
    let text = include_str!("../../../parsers/postfix.toml");
    let file: toml::Value = toml::from_str(text).unwrap();
    let define: BTreeMap<String, String> =
        file["define"].as_table().unwrap().iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect();
    let mut seen = 0;
    for pattern in file["pattern"].as_array().unwrap() {
        let name = pattern["name"].as_str().unwrap();
        if !matches!(name, "delivery by smtp" | "delivery by an agent" | "removed" | "active" | "client" | "message-id") {
            continue;
        }
        let whole = expand(pattern["match"].as_str().unwrap(), &define, 0).unwrap();
        assert!(one_pass(&whole), "{name}: {whole}");
        seen += 1;
    }
    assert_eq!(seen, 6);
    assert!(!one_pass(r"^(.*), (.*)$"));
}
