//! The last reader: any text with a bounce's headers in which an address and a code stand together. Its claims are of low confidence.

use super::dialect::address;
use super::report::Claim;
use super::status::{enhanced, smtp_code};

/// Most lines of a text that are looked at.
const MAX_LINES: usize = 400;
/// Most recipients that are believed of such a text.
const MAX_FOUND: usize = 20;
/// A code is of an address so many lines before it, or on its line.
const NEAR: usize = 4;

/// Lines behind which the returned message stands.
fn is_end(line: &str) -> bool {
    let plain = line.trim_matches(['-', ' ', '*', '=', '>']).to_lowercase();
    let marks = ["original message", "returned message", "original headers", "below this line is a copy", "message headers follow"];
    marks.iter().any(|m| plain.starts_with(m) && plain.len() < m.len() + 24)
        || ["received:", "return-path:", "message-id:"].iter().any(|m| line.to_lowercase().starts_with(m))
}

/// Reads addresses and the codes near them. `own` are addresses of the bounce itself, which it is not about.
pub(super) fn read(text: &str, own: &[String]) -> Vec<Claim> {
    let lines: Vec<&str> = text.lines().take_while(|l| !is_end(l)).take(MAX_LINES).collect();
    let mut claims: Vec<Claim> = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let Some(name) = addresses(line).find(|a| !own.iter().any(|o| o.eq_ignore_ascii_case(a))) else { continue };
        let known = claims.iter().any(|c| c.final_recipient.eq_ignore_ascii_case(&name));
        if known || claims.len() >= MAX_FOUND {
            continue;
        }
        let near = lines.get(n..(n + NEAR).min(lines.len())).unwrap_or_default();
        // The next recipient's code is not this one's.
        let until = near.iter().skip(1).position(|l| addresses(l).any(|a| !a.eq_ignore_ascii_case(&name))).map_or(near.len(), |p| p + 1);
        let said = near.iter().take(until).find(|l| code(l).is_some());
        let Some(said) = said.or_else(|| lines.get(n.checked_sub(1)?).filter(|l| code(l).is_some())) else { continue };
        let mut claim = Claim::about(name);
        claim.diagnostic = Some(said.trim().to_string());
        claim.low = true;
        if code(said) == Some('4') {
            claim.action = crate::model::event::Action::Delayed;
        }
        claims.push(claim);
    }
    claims
}

/// The class of the code on a line.
fn code(line: &str) -> Option<char> {
    let smtp = || smtp_code(line).filter(|c| *c >= 400).and_then(|c| char::from_digit(u32::from(c / 100), 10));
    enhanced(line).and_then(|s| s.chars().next()).filter(|c| *c != '2').or_else(smtp)
}

fn addresses(line: &str) -> impl Iterator<Item = String> {
    let words = line.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '(' | ')' | '[' | ']' | ',' | ';' | '"'));
    words.filter(|w| w.split_once('@').is_some_and(|(l, d)| !l.is_empty() && d.contains('.') && !d.contains('@'))).filter_map(address)
}
