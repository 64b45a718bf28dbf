//! The query: which records are asked for. Filters are all to be met; [`Query::matches`] says whether a record does.

use super::direction::{Direction, Domains};
use super::event::Action;
use super::record::{Recipient, Record, Role};

/// Text to be met by a value: without regard to case, `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern; angle brackets around an address or id are dropped.
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        let text = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text);
        Pattern(text.to_lowercase())
    }

    /// The pattern in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it holds a wildcard.
    pub fn is_wild(&self) -> bool {
        self.0.contains('*')
    }

    /// Whether `value` meets it.
    pub fn matches(&self, value: &str) -> bool {
        let value = value.to_lowercase();
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = value.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// How results are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Newest arrival first.
    #[default]
    Newest,
    /// Oldest arrival first.
    Oldest,
}

/// Which records are asked for; an empty query is everything.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Sender; an empty pattern (`<>`) asks for bounces.
    pub from: Option<Pattern>,
    /// Any recipient, original or final.
    pub to: Option<Pattern>,
    /// Message-ID.
    pub message_id: Option<Pattern>,
    /// ENVID.
    pub envelope_id: Option<Pattern>,
    /// The record's own queue id.
    pub queue_id: Option<Pattern>,
    /// Reporting host.
    pub host: Option<Pattern>,
    /// Client name or address.
    pub client: Option<Pattern>,
    /// Authenticated user.
    pub user: Option<Pattern>,
    /// Any recipient's action.
    pub action: Option<Action>,
    /// Any recipient's status; `5.*` for a class.
    pub status: Option<Pattern>,
    /// Next host's name or address.
    pub relay: Option<Pattern>,
    /// Parser's name or instance.
    pub mta: Option<Pattern>,
    /// Arrival not before, microseconds.
    pub since: Option<i64>,
    /// Arrival before, microseconds.
    pub until: Option<i64>,
    /// Smallest and largest size in bytes, inclusive.
    pub size: Option<(u64, u64)>,
    /// Only hops, rejects, witnesses or reports; `None` is hops and rejects. Witnesses are found by their ids only.
    pub role: Option<Role>,
    /// Its way, as seen by the site that has these domains.
    pub direction: Option<(Direction, Domains)>,
    /// Still queued only ([`Record::is_queued`]).
    pub open: bool,
    /// Words that the diagnostics, remarks or subject must hold, in lower case.
    pub words: Vec<String>,
    /// Order of results.
    pub sort: Sort,
    /// At most so many; `None` is all.
    pub limit: Option<usize>,
}

fn any(p: &Option<Pattern>, values: &[Option<&str>]) -> bool {
    p.as_ref().is_none_or(|p| values.iter().flatten().any(|v| p.matches(v)))
}

impl Query {
    /// Whether a record meets every filter. The recipient filters are to be met by one and the same recipient.
    pub fn matches(&self, r: &Record) -> bool {
        let role_ok = match self.role {
            Some(role) => r.role == role,
            None => matches!(r.role, Role::Hop | Role::Reject),
        };
        role_ok
            && any(&self.from, &[r.envelope_from.as_deref()])
            && any(&self.message_id, &[r.message_id.as_deref()])
            && any(&self.envelope_id, &[r.envelope_id.as_deref()])
            && any(&self.queue_id, &[r.queue_id.as_deref()])
            && any(&self.host, &[Some(&r.reporting_mta)])
            && any(&self.client, &[r.client.name.as_deref(), r.client.ip.as_deref()])
            && any(&self.user, &[r.auth_user.as_deref()])
            && any(&self.mta, &[Some(&r.mta), Some(&r.instance)])
            && self.since.is_none_or(|t| r.arrival_date.micros >= t)
            && self.until.is_none_or(|t| r.arrival_date.micros < t)
            && self.size.is_none_or(|(a, b)| r.size.is_some_and(|s| s >= a && s <= b))
            && (!self.open || r.is_queued())
            && self.direction.as_ref().is_none_or(|(d, own)| own.direction(r) == Some(*d))
            && self.recipient_matches(r)
            && self.words_match(r)
    }

    fn recipient_matches(&self, r: &Record) -> bool {
        let none = self.to.is_none() && self.action.is_none() && self.status.is_none() && self.relay.is_none();
        none || r.recipients.iter().any(|x| self.is_about(x))
    }

    /// Whether a recipient meets the filters that ask for one.
    pub fn is_about(&self, x: &Recipient) -> bool {
        any(&self.to, &[Some(&x.original_recipient), Some(&x.final_recipient)])
            && self.action.is_none_or(|a| a == x.action)
            && any(&self.status, &[Some(&x.status)])
            && any(&self.relay, &[x.remote_mta.as_deref(), x.remote_ip.as_deref(), x.relay.as_deref()])
    }

    fn words_match(&self, r: &Record) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let mut text = String::new();
        for part in r.recipients.iter().filter_map(|x| x.diagnostic.as_deref()).chain(r.remark.as_deref()).chain(r.subject.as_deref()) {
            text.push_str(&part.to_lowercase());
            text.push('\n');
        }
        self.words.iter().all(|w| text.contains(w.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_ignore_case_and_take_stars() {
        assert!(Pattern::new("<Bob@Example.TEST>").matches("bob@example.test"));
        assert!(Pattern::new("*@example.test").matches("Bob@example.test"));
        assert!(!Pattern::new("*@example.test").matches("bob@example.test.evil"));
        assert!(Pattern::new("a*b*c").matches("axxbyyc"));
        assert!(!Pattern::new("a*a").matches("a"));
        assert!(Pattern::new("<>").matches("") && !Pattern::new("<>").matches("x"));
    }
}
