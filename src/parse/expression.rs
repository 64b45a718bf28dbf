//! Expressions of parser files: the regular expressions themselves, and the named sub-patterns in them.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use std::collections::BTreeMap;

/// Compiles an expression over bytes: ASCII classes, no line mode.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .configure(Regex::config().utf8_empty(false).nfa_size_limit(Some(1 << 20)))
        .build(pattern)
        .map_err(|e| {
            use std::error::Error;
            e.source().map_or_else(|| e.to_string(), |s| s.to_string())
        })
}

pub(super) fn expand(text: &str, define: &BTreeMap<String, String>, depth: usize) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("%{") {
        let (name, tail) = after.split_once('}').ok_or("`%{` without `}`")?;
        let value = define.get(name).ok_or_else(|| format!("`%{{{name}}}` is not in [define]"))?;
        if depth > 8 {
            return Err(format!("`%{{{name}}}` is defined by itself"));
        }
        out.push_str(before);
        out.push_str("(?:");
        out.push_str(&expand(value, define, depth + 1)?);
        out.push(')');
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}
