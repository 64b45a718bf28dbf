//! Expressions of parser files: the regular expressions themselves, and the named sub-patterns in them.

use memchr::memmem::Finder;
use regex_automata::meta::{Builder, Cache, Regex};
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Hir, HirKind, Look};
use std::collections::BTreeMap;

/// A regular expression over bytes (ASCII classes, no line mode), with what can be known of a text without running it.
///
/// An expression that ends in fixed text and `$` is split: the text is compared, and only what is before it is searched. So
/// `\((.*)\)$` asks no engine where the last bracket is, and is one-pass, as the engines call it: each byte has one meaning
/// only, and finding the groups costs no more than finding out whether there is a match.
#[derive(Debug)]
pub struct Expression {
    regex: Regex,
    /// Fixed text at the end of every match.
    tail: Vec<u8>,
    /// Fixed texts that stand in every match, in this order.
    pieces: Vec<Finder<'static>>,
    /// What it matches, where that is a few fixed texts at the beginning. Empty where it is not.
    texts: Vec<Box<[u8]>>,
}

/// Fixed texts shorter than this are not looked for on their own.
const PIECE: usize = 4;
/// So many fixed texts are compared one after the other.
const FEW: usize = 8;

impl Expression {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let hir = syntax::parse_with(pattern, &syntax()).map_err(|e| e.to_string())?;
        let mut pieces = Vec::new();
        if let HirKind::Concat(parts) = hir.kind() {
            let fixed = parts.iter().filter_map(|p| literal(p)).filter(|l| l.len() >= PIECE);
            pieces.extend(fixed.map(|l| Finder::new(l).into_owned()));
        }
        let texts = texts(&hir).unwrap_or_default();
        let (hir, tail) = split_tail(hir);
        let regex = builder().build_from_hir(&hir).map_err(|e| words(&e))?;
        Ok(Expression { regex, tail, pieces, texts })
    }

    /// Number and names of the groups.
    pub fn group_info(&self) -> &regex_automata::util::captures::GroupInfo {
        self.regex.group_info()
    }

    /// Whether it matches from the beginning of `text`.
    pub fn is_match(&self, cache: &mut Option<Cache>, text: &[u8]) -> bool {
        if !self.texts.is_empty() {
            return self.texts.iter().any(|t| text.starts_with(t));
        }
        let Some(text) = self.without_tail(text) else { return false };
        self.regex.search_half_with(cache.get_or_insert_with(|| self.regex.create_cache()), &anchored(text)).is_some()
    }

    /// Whether it matches anywhere in `text` (it says itself where, by `^`). For what seldom does: fixed texts are looked for first.
    pub fn occurs_in(&self, text: &[u8]) -> bool {
        let mut from = 0;
        for piece in &self.pieces {
            let Some(at) = text.get(from..).and_then(|rest| piece.find(rest)) else { return false };
            from += at + piece.needle().len();
        }
        self.without_tail(text).is_some_and(|text| self.regex.is_match(Input::new(text)))
    }

    /// Where the groups are, if it matches from the beginning of `text`: begin and end of each, the whole match first (up to
    /// the fixed text at the end).
    pub fn groups(&self, cache: &mut Option<Cache>, text: &[u8], slots: &mut Vec<Option<NonMaxUsize>>) -> bool {
        slots.clear();
        let Some(text) = self.without_tail(text) else { return false };
        slots.resize(self.regex.captures_len() * 2, None);
        let cache = cache.get_or_insert_with(|| self.regex.create_cache());
        self.regex.search_slots_with(cache, &anchored(text), slots).is_some()
    }

    fn without_tail<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        // To compare with nothing took a tenth of the time that lines of other programs take.
        if self.tail.is_empty() { Some(text) } else { text.strip_suffix(self.tail.as_slice()) }
    }
}

fn anchored(text: &[u8]) -> Input<'_> {
    Input::new(text).anchored(Anchored::Yes)
}

fn literal(part: &Hir) -> Option<&[u8]> {
    match part.kind() {
        HirKind::Literal(l) => Some(&l.0),
        _ => None,
    }
}

/// The texts that `^(?:a|b)c` is another word for.
fn texts(hir: &Hir) -> Option<Vec<Box<[u8]>>> {
    let HirKind::Concat(parts) = hir.kind() else { return None };
    let (first, rest) = parts.split_first()?;
    let plain = matches!(first.kind(), HirKind::Look(Look::Start)) && rest.iter().all(|p| p.properties().look_set().is_empty());
    let found = Extractor::new().extract(&Hir::concat(rest.to_vec()));
    let few = found.literals().filter(|l| plain && found.is_exact() && l.len() <= FEW)?;
    Some(few.iter().map(|l| l.as_bytes().into()).collect())
}

/// Takes the fixed text off the end of what ends in fixed text and `$`. `x L $` matches `t` just where `x $` matches `t`
/// without `L` at its end, whatever `x` is.
fn split_tail(hir: Hir) -> (Hir, Vec<u8>) {
    let HirKind::Concat(parts) = hir.kind() else { return (hir, Vec::new()) };
    let [before @ .., fixed, end] = parts.as_slice() else { return (hir, Vec::new()) };
    match (literal(fixed), end.kind()) {
        (Some(tail), HirKind::Look(Look::End)) => {
            let rest = before.iter().cloned().chain([end.clone()]).collect();
            (Hir::concat(rest), tail.to_vec())
        }
        _ => (hir, Vec::new()),
    }
}

fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

fn builder() -> Builder {
    let mut builder = Regex::builder();
    builder.syntax(syntax()).configure(Regex::config().utf8_empty(false).nfa_size_limit(Some(1 << 20)));
    builder
}

fn words(e: &regex_automata::meta::BuildError) -> String {
    use std::error::Error;
    e.source().map_or_else(|| e.to_string(), |s| s.to_string())
}

/// Compiles an expression that is searched for anywhere in a text.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    builder().build(pattern).map_err(|e| words(&e))
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

#[cfg(test)]
mod tests;
