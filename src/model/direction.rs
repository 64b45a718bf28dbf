//! Inbound or outbound: which way a message goes, as seen by a site that has domains of its own.
//!
//! | sender | recipients | direction |
//! |---|---|---|
//! | another's | one or more are own | inbound |
//! | own | one or more are another's | outbound |
//! | own | all are own | internal |
//! | another's | all are another's | relay |
//!
//! A sender is own if its domain is, if the client logged in, or if the message is a notification that was made here
//! (no sender and no client). A recipient counts as the client named it, before aliases; one without a domain is own.
//! A sender's domain is the sender's word: forged mail in an own domain's name counts as that domain's.

use super::record::Record;
use std::sync::Arc;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From elsewhere to the site.
    Inbound,
    /// From the site to elsewhere.
    Outbound,
    /// Within the site.
    Internal,
    /// From elsewhere to elsewhere.
    Relay,
}

impl Direction {
    /// Every direction.
    pub const ALL: [Direction; 4] = [Direction::Inbound, Direction::Outbound, Direction::Internal, Direction::Relay];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
            Direction::Internal => "internal",
            Direction::Relay => "relay",
        }
    }
}

/// A site's own mail domains.
#[derive(Debug, Clone, Default)]
pub struct Domains(Arc<[String]>);

impl Domains {
    /// From the config's list: lower case, `*.example.org` for all below `example.org`.
    pub fn new(domains: &[String]) -> Self {
        Domains(domains.into())
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is of one of the domains. One without a domain is: it is the host's.
    pub fn has(&self, address: &str) -> bool {
        let Some((_, domain)) = address.rsplit_once('@') else { return true };
        let domain = domain.trim_end_matches('.').to_lowercase();
        self.0.iter().any(|own| match own.strip_prefix('*') {
            Some(below) => domain.len() > below.len() && domain.ends_with(below),
            None => *own == domain,
        })
    }

    /// A record's direction; `None` where its log names no sender or no recipient.
    pub fn direction(&self, r: &Record) -> Option<Direction> {
        let from = r.envelope_from.as_deref()?;
        if r.recipients.is_empty() {
            return None;
        }
        let own_sender = match from {
            "" | "<>" => r.client.ip.is_none() && r.client.name.is_none(),
            address => r.auth_user.is_some() || self.has(address),
        };
        let mut own = r.recipients.iter().map(|x| self.has(&x.original_recipient));
        Some(match own_sender {
            true if own.all(|o| o) => Direction::Internal,
            true => Direction::Outbound,
            false if own.any(|o| o) => Direction::Inbound,
            false => Direction::Relay,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_and_what_is_below_them() {
        let d = Domains::new(&["example.org".into(), "*.example.net".into()]);
        assert!(d.has("A@Example.ORG") && d.has("a@x.y.example.net") && d.has("root"));
        assert!(!d.has("a@example.net") && !d.has("a@evilexample.org") && !d.has("a@.example.net"));
    }
}
