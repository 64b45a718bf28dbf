//! A parser file to begin with: made from lines of a log, with the lines as samples.
//!
//! It holds one pattern for each form of line, all of them `ignore`, so that `parsers check` passes at once. From
//! there a form is made an event by naming its fields, one at a time.

use crate::parse::frame;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Lines that are looked at (R6).
const MAX_LINES: usize = 10_000;
/// Forms of lines that get a pattern.
const MAX_FORMS: usize = 100;
/// Samples of one form.
const MAX_SAMPLES: usize = 3;

/// One form of line.
struct Form {
    pattern: String,
    samples: Vec<String>,
}

/// The text of a parser file called `name` for these lines.
pub fn skeleton(name: &str, text: &[u8]) -> String {
    let mut programs = BTreeSet::new();
    let mut forms: Vec<Form> = Vec::new();
    let (mut bare, mut unread) = (false, 0usize);
    let lines = text.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)).filter(|l| !l.is_empty());
    for line in lines.take(MAX_LINES) {
        // A file is text: what is no UTF-8 cannot stand in it.
        let Ok(line) = std::str::from_utf8(line) else {
            unread += 1;
            continue;
        };
        let Some(f) = frame::parse(line.as_bytes()) else {
            unread += 1;
            continue;
        };
        let Some(message) = line.get(f.message..) else { continue };
        match std::str::from_utf8(f.program) {
            Ok("") | Err(_) => bare |= f.host.is_empty(),
            Ok(tag) => _ = programs.insert(tag.to_string()),
        }
        let pattern = form(message);
        if let Some(f) = forms.iter_mut().find(|f| f.pattern == pattern) {
            if f.samples.len() < MAX_SAMPLES {
                f.samples.push(line.to_string());
            }
        } else if forms.len() < MAX_FORMS {
            forms.push(Form { pattern, samples: vec![line.to_string()] });
        } else {
            unread += 1;
        }
    }
    if programs.is_empty() {
        programs.insert(name.to_string());
    }
    write_file(name, &programs, bare, &forms, unread)
}

fn write_file(name: &str, programs: &BTreeSet<String>, bare: bool, forms: &[Form], unread: usize) -> String {
    let mut out = String::new();
    let programs: Vec<String> = programs.iter().map(|p| quoted(p)).collect();
    // Writing to a string cannot fail.
    _ = writeln!(out, "# TODO: what is it, and by which rules does it write what strangers sent (quotes, escapes)?");
    _ = writeln!(out, "# How to go on: parsers/README.md, \"A home-made MTA, from its lines to a passing check\".");
    if unread > 0 {
        _ = writeln!(out, "# {unread} lines were left out: no stamp that is known, no UTF-8, or too many forms.");
    }
    _ = writeln!(out, "\nname        = {}", quoted(name));
    _ = writeln!(out, "description = \"TODO\"\nversions    = \"TODO\"\nchecked     = \"real\"\nrole        = \"mta\"");
    _ = writeln!(out, "programs    = [{}]", programs.join(", "));
    if bare {
        _ = writeln!(out, "bare        = true");
    }
    for (n, form) in forms.iter().enumerate() {
        _ = writeln!(out, "\n# TODO: make it an event and name its groups, e.g. (?<queue_id>...), (?<final_recipient>...)");
        _ = writeln!(out, "[[pattern]]\nname    = \"form {}\"\nevent   = \"ignore\"\nmatch   = {}", n + 1, quoted(&form.pattern));
        for sample in &form.samples {
            _ = writeln!(out, "[[pattern.sample]]\nline   = {}\nexpect = \"ignored\"", quoted(sample));
        }
    }
    if let Some((line, at)) = forms.first().and_then(|f| f.samples.first()).and_then(|l| Some((l, frame::parse(l.as_bytes())?.message))) {
        let (head, message) = line.split_at_checked(at).unwrap_or((line, ""));
        _ = writeln!(out, "\n# Looks alike but is not: no pattern may take it.");
        _ = writeln!(out, "[[sample]]\nline   = {}\nexpect = \"none\"", quoted(&format!("{head}not so: {message}")));
    }
    out
}

/// A TOML string, as it stands where that can be.
fn quoted(text: &str) -> String {
    if !text.contains('\'') && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    toml::Value::String(text.to_string()).to_string()
}

/// The message as an expression: addresses, numbers and ids become what they may be, all else stands as it is.
fn form(message: &str) -> String {
    let mut out = String::from("^");
    let mut rest = message;
    while let Some(c) = rest.chars().next() {
        let bracketed = rest.strip_prefix('<').and_then(|r| r.split_once('>')).filter(|(inner, _)| !inner.contains(['<', ' ']));
        if let Some((_, after)) = bracketed {
            out.push_str("<[^<>]*>");
            rest = after;
            continue;
        }
        let word = rest.find(|c: char| !(c.is_alphanumeric() || "@._+-".contains(c))).unwrap_or(rest.len());
        let (text, after) = rest.split_at_checked(word.max(c.len_utf8())).unwrap_or((rest, ""));
        match text {
            t if t.contains('@') || !t.is_ascii() => out.push_str("\\S+"),
            t if t.bytes().all(|b| b.is_ascii_digit()) => out.push_str("\\d+"),
            t if t.bytes().any(|b| b.is_ascii_digit()) => out.push_str("[0-9A-Za-z._+-]+"),
            t => escape(t, &mut out),
        }
        rest = after;
    }
    out.push('$');
    out
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        if "\\.+*?()|[]{}^$#&-~".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Matcher;
    use crate::parse::file::ParserFile;

    const LINES: &str = "\
Mar  2 08:00:00 mx1 mymta[71]: A1B2C3: from <a@b.example> size 100, it's [ok] (1.5s)
Mar  2 08:00:01 mx1 mymta[71]: D4E5F6: from <\"x y\"@b.example> size 7, it's [ok] (2.5s)
Mar  2 08:00:02 mx1 mymtad[72]: delivered D4E5F6 to jürgen@d.example\\now
nonsense
";

    #[test]
    fn a_skeleton_passes_the_check_at_once() {
        for text in [LINES, "", "2026-03-02 08:00:00.123 4711 <x> done: '''\ta\n", "Mar  2 08:00:00 mx1 a[1]: \"\"\" ''' \\ %{x}\n"] {
            let file = skeleton("mymta", text.as_bytes());
            let parsed = ParserFile::read(&file, "new").unwrap_or_else(|e| panic!("{e}\n{file}"));
            if text.is_empty() {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("mymta.toml"), &file).unwrap();
            let parsers = crate::parse::Parsers::load(Some(dir.path())).unwrap();
            let wrong = Matcher::new(parsers).check_samples();
            assert!(wrong.is_empty(), "{}\n{file}", wrong.join("\n"));
            assert!(!parsed.patterns.is_empty());
        }
    }

    #[test]
    fn lines_of_one_form_share_a_pattern() {
        let file = ParserFile::read(&skeleton("mymta", LINES.as_bytes()), "new").unwrap();
        assert_eq!((file.patterns.len(), file.programs.as_slice()), (3, ["mymta".to_string(), "mymtad".to_string()].as_slice()));
    }
}
