//! The tables of requirements name tests that there are, and every test named for a section of RFC 3886 or 3887 stands in one.

use std::path::Path;

/// Full names of all tests of the library and of this binary, as `module::name`.
fn all_tests() -> Vec<String> {
    let mut found = Vec::new();
    for root in ["src", "tests/all"] {
        for entry in glob::glob(&format!("{root}/**/*.rs")).unwrap() {
            tests_of(root, &entry.unwrap(), &mut found);
        }
    }
    assert!(found.len() > 500, "only {} tests found", found.len());
    found
}

fn tests_of(root: &str, path: &Path, found: &mut Vec<String>) {
    let inside = path.strip_prefix(root).unwrap().with_extension("");
    let mut module: Vec<String> = inside.iter().map(|c| c.to_string_lossy().into_owned()).filter(|c| c != "mod").collect();
    if root == "tests/all" {
        module.insert(0, "all".into());
    } else if !module.iter().any(|c| c == "tests") {
        module.push("tests".into());
    }
    let text = std::fs::read_to_string(path).unwrap();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ").and_then(|l| l.split('(').next());
        match name {
            Some(name) if marked => found.push(format!("{}::{name}", module.join("::"))),
            _ => {}
        }
        marked = line.starts_with("#[test]") || line.starts_with("#[tokio::test") || (marked && line.starts_with("#["));
    }
}

/// Rows of the tables of a module's documentation, and the names in the last cell of each: of tests, or of golden dialogues.
fn rows(file: &str) -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter_map(|l| l.strip_prefix("//! | "));
    let rows = lines.filter(|l| l.starts_with(|c: char| c.is_ascii_digit()));
    rows.map(|l| {
        let last = l.trim_end().trim_end_matches('|').rsplit('|').next().unwrap();
        (l.to_string(), last.split('`').skip(1).step_by(2).map(str::to_string).collect())
    })
    .collect()
}

/// Whether a name of a table stands for a test: its end, at the border of a module, or with `*` or `..` its beginning.
fn means(name: &str, test: &str) -> bool {
    let (wanted, cut) = match name.strip_suffix('*').or_else(|| name.strip_suffix("..")) {
        Some(beginning) => (beginning, true),
        None => (name, false),
    };
    let from = |at: usize| test.get(at..).is_some_and(|rest| if cut { rest.starts_with(wanted) } else { rest == wanted });
    from(0) || test.match_indices("::").any(|(at, _)| from(at + 2))
}

#[test]
fn every_requirement_of_the_rfcs_names_tests_that_there_are() {
    let tests = all_tests();
    let mut named = Vec::new();
    for (file, least) in [("src/mtqp/mod.rs", 45), ("src/smtp/mod.rs", 12)] {
        let rows = rows(file);
        assert!(rows.len() >= least, "{file}: only {} rows found", rows.len());
        for (row, names) in rows {
            // What says how it is seen to elsewhere, or why not, names no test.
            let said = ["| none |", "not ours:", "MTQP's table"].iter().any(|w| row.contains(w));
            assert!(said || !names.is_empty(), "{file}: no test is named in {row}");
            for name in names {
                match name.strip_prefix("golden/") {
                    Some(dialogue) => {
                        let place = format!("tests/golden/mtqp/{}/dialogue", dialogue);
                        assert!(glob::glob(&place).unwrap().next().is_some(), "{file}: no {place}: {row}");
                    }
                    None => assert!(tests.iter().any(|t| means(&name, t)), "{file}: there is no test `{name}`: {row}"),
                }
                named.push(name);
            }
        }
    }
    let of_sections = tests.iter().filter(|t| t.contains("::rfc3886_") || t.contains("::rfc3887_"));
    let missing: Vec<&String> = of_sections.filter(|t| !named.iter().any(|n| means(n, t))).collect();
    assert!(missing.is_empty(), "no row names these tests: {missing:#?}");
}

#[test]
fn names_are_told_apart() {
    assert!(means("uri::tests::*", "mtqp::uri::tests::x") && means("all::mtqp::n2_*", "all::mtqp::n2_what"));
    assert!(means("x", "a::x") && !means("x", "a::xx") && !means("x*", "a::bx") && means("rfc3885_2_..", "smtp::tests::rfc3885_2_a"));
}
