//! One person's address, wherever it stands in a text.
//!
//! Found are, without regard to the case of ASCII letters, and only where they stand for themselves
//! (`superuser@example.org` is not `user@example.org`, nor is `user@example.org.uk`):
//! * the address, plain or with its local part in quotes; also behind a BATV tag (`prvs=1234=user@example.org`);
//! * as xtext (RFC 3461, 4): `user+40example.org`, and `+2B`, `+3D` within the local part;
//! * as VERP: `user=example.org`, `user=40example.org`; percent forms: `user%40example.org`, `user%example.org`; SRS: `example.org=user`.
//!
//! Not found is what does not hold the address so: `user+tag@example.org` (name it by itself), other encodings
//! (quoted-printable, base64, an IDN's other form), a hash, a name.

use super::{Edit, FORGOTTEN, StoredRecord, edited, in_order, rebuilt, rewrite};
use crate::model::event::Field;
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// The longest address, bytes.
const MAX: usize = 1024;

/// An address to be found in all its forms.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Person {
    address: String,
    forms: Regex,
}

impl From<Person> for String {
    fn from(p: Person) -> String {
        p.address
    }
}

impl TryFrom<String> for Person {
    type Error = String;

    fn try_from(address: String) -> Result<Self, String> {
        Person::new(&address)
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("\\x{b:02x}") }).collect()
}

/// What may be part of a local part or a domain beside what is looked for.
fn joins(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b >= 0x80 || b"._-+!#$%&*^`{|}~?".contains(&b)
}

impl Person {
    /// An address with or without angle brackets.
    ///
    /// # Errors
    /// In words, when it is no address with a local part and a domain.
    pub fn new(address: &str) -> Result<Person, String> {
        let bare = address.trim().trim_start_matches('<').trim_end_matches('>').to_lowercase();
        let bad = || format!("`{address}` is no address: local-part@domain is wanted");
        let (local, domain) = bare.rsplit_once('@').ok_or_else(bad)?;
        let local = local.strip_prefix('"').and_then(|l| l.strip_suffix('"')).unwrap_or(local);
        let wrong = |c: char| c.is_control() || c == '<' || c == '>';
        if local.is_empty() || domain.is_empty() || bare.len() > MAX || bare.contains(wrong) || domain.contains(' ') {
            return Err(bad());
        }
        let xtext = local.replace('+', "+2b").replace('=', "+3d");
        let forms = [
            format!("\"{local}\"@{domain}"),
            format!("{local}@{domain}"),
            format!("{xtext}@{domain}"),
            format!("{xtext}+40{domain}"),
            format!("{local}=40{domain}"),
            format!("{local}={domain}"),
            format!("{local}%40{domain}"),
            format!("{local}%{domain}"),
            format!("{domain}={local}"),
        ];
        let pattern = forms.iter().map(|f| escaped(f)).collect::<Vec<_>>().join("|");
        let forms = RegexBuilder::new(&pattern).unicode(false).case_insensitive(true).build().map_err(|e| format!("{}: {e}", bad()))?;
        Ok(Person { address: format!("{local}@{domain}"), forms })
    }

    /// The address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether a text holds the address.
    pub fn is_in(&self, text: &[u8]) -> bool {
        !self.edits(text, 0).is_empty()
    }

    /// Masks for all places in `text`, which begins at `base`.
    fn edits(&self, text: &[u8], base: usize) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut from = 0;
        while let Some(m) = self.forms.find_at(text, from) {
            from = m.start() + 1;
            let plain = m.as_bytes().contains(&b'@');
            let before = m.start().checked_sub(1).and_then(|n| text.get(n));
            let alone = match (plain, before) {
                (_, None) => true,
                (true, Some(b)) => !joins(*b),
                // A bounce address has its own word before the recipient: `bounces+user=`, `list-return-12-user=`, `SRS0=HH=TT=example.org=user`.
                (false, Some(b)) => !b.is_ascii_alphanumeric() && *b < 0x80 && !b"_.".contains(b),
            };
            let ends = match (text.get(m.end()), text.get(m.end() + 1)) {
                (Some(b'.'), Some(b)) => !b.is_ascii_alphanumeric(),
                (Some(b), _) => !b.is_ascii_alphanumeric() && *b < 0x80 && !b"-_".contains(b),
                (None, _) => true,
            };
            if !alone || !ends {
                continue;
            }
            let with = if plain { FORGOTTEN.as_bytes().to_vec() } else { FORGOTTEN.replace('@', "=").into_bytes() };
            edits.push(Edit { at: base + m.start()..base + m.end(), with });
            from = m.end();
        }
        edits
    }

    /// A text without the address; `None` when it does not hold it.
    pub fn masked(&self, text: &[u8]) -> Option<Vec<u8>> {
        let edits = self.edits(text, 0);
        (!edits.is_empty()).then(|| edited(text, &edits))
    }

    /// A record without the address, and how many of its lines had it; `None` when none has.
    pub fn forgotten(&self, stored: &StoredRecord) -> Option<(StoredRecord, u64)> {
        let queue_id = self.masked(stored.slot.queue_id.as_bytes()).map(|id| String::from_utf8_lossy(&id).into_owned());
        if queue_id.is_none() && !self.forms.is_match(&stored.events) {
            return None;
        }
        let (mut events, mut lines) = (Vec::with_capacity(stored.events.len()), 0);
        for event in stored.events() {
            let (line, whole) = (event.line(), event.whole());
            let mut edits = self.edits(line, 0);
            edits.extend(self.edits(whole.get(line.len()..).unwrap_or_default(), line.len()));
            lines += u64::from(!edits.is_empty());
            rewrite(&mut events, &event, &in_order(edits));
        }
        (lines > 0 || queue_id.is_some()).then(|| (rebuilt(stored, &events, queue_id), lines))
    }

    /// Whether a value is the address and nothing else (but for a BATV tag).
    fn is_all_of(&self, value: &[u8]) -> bool {
        let Some(masked) = self.masked(value) else { return false };
        masked == FORGOTTEN.as_bytes() || (masked.starts_with(b"prvs=") && masked.ends_with(FORGOTTEN.as_bytes()))
    }

    /// Whether a record is this person's alone: the address is its sender, or the only recipient that it names.
    pub fn owns(&self, stored: &StoredRecord) -> bool {
        use Field::*;
        let (mut recipients, mut own) = (0u32, 0u32);
        for event in stored.events() {
            for (field, value) in event.fields() {
                match field {
                    EnvelopeFrom | AuthUser if self.is_all_of(value) => return true,
                    FinalRecipient | NamedRecipient | Recipients if !value.is_empty() => {
                        recipients += 1;
                        let alias = event.get(OriginalRecipient).is_some_and(|o| self.is_all_of(o));
                        own += u32::from(alias || self.is_all_of(value));
                    }
                    _ => {}
                }
            }
        }
        own > 0 && own == recipients
    }
}
