//! What an answer may show, by config.

use crate::model::query::Pattern;
use crate::model::record::Recipient;
use serde::Deserialize;
use std::collections::BTreeMap;

/// How far inside the own network an answer may look (RFC 3887, 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// Every hop.
    #[default]
    Full,
    /// The first hop and the last one of each recipient.
    FinalHop,
    /// One part, in the first hop's name: each recipient as it ended inside (RFC 3887, example 11).
    Combined,
    /// The first hop only; what it handed on inside is "relayed".
    EdgeOnly,
}

/// What is said of a forwarding address that is hidden (RFC 3886, 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    /// (a) `relayed`.
    #[default]
    Relayed,
    /// (b) `delivered`.
    Delivered,
}

/// `[mtqp.answer]`: what an answer may show.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// `full`, `final-hop`, `combined` or `edge-only`.
    pub look: Look,
    /// Hosts inside are all called by the name of the first hop (RFC 3887, example 12).
    pub hide_hosts: bool,
    /// The public name of this site's tracking server and first hop, where it is not the logs' own.
    pub public_name: Option<String>,
    /// Own domains: a short log name and a full one are one host only inside them.
    pub own_domains: Vec<String>,
    /// Addresses that no answer names, with `*` as wildcard: those that a milter or `always_bcc` adds (an archive) look in
    /// logs as if the sender had addressed them.
    pub never_show: Vec<String>,
    /// Addresses whose forwarding targets are hidden, with `*` as wildcard: `*@example.org`.
    pub hide_forwarding_of: Vec<String>,
    /// What is said of them instead: `relayed` or `delivered`.
    pub hidden_forwarding: Forwarding,
    /// Domains (and all below them) whose hosts are known to track: what was handed to them is "transferred".
    pub tracking_domains: Vec<String>,
    /// Hours that a message lies in the queue at most, for Will-Retry-Until; by MTA where it is not given
    /// (the MTAs' own defaults: Postfix and Sendmail 120, Exim and OpenSMTPD 96, qmail 168).
    pub queue_lifetime_hours: Option<u32>,
    /// Names and addresses of own hosts, each with the name under which its records are kept; not read from this table.
    #[serde(skip)]
    pub aliases: BTreeMap<String, String>,
}

/// Whether a host is in one of the domains, or is one.
pub(in crate::mtqp) fn in_domains(host: &str, domains: &[String]) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    domains.iter().any(|d| {
        let d = d.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        host == d || (!d.is_empty() && host.strip_suffix(d.as_str()).is_some_and(|rest| rest.ends_with('.')))
    })
}

impl Policy {
    /// The name under which a host is kept, in lower case.
    pub(super) fn host(&self, written: &str) -> String {
        let name = written.trim_end_matches('.').to_lowercase();
        self.aliases.get(&name).cloned().unwrap_or(name)
    }

    pub(super) fn hides_forwarding_of(&self, address: &str) -> bool {
        self.hide_forwarding_of.iter().any(|p| Pattern::new(p).matches(address))
    }

    pub(super) fn may_show(&self, p: &Recipient) -> bool {
        let meets = |pattern: &String| {
            let pattern = Pattern::new(pattern);
            pattern.matches(&p.original_recipient) || pattern.matches(&p.final_recipient)
        };
        !self.never_show.iter().any(meets)
    }

    pub(super) fn tracks(&self, host: &str) -> bool {
        in_domains(host, &self.tracking_domains)
    }

    /// Seconds that a message may lie in the queue of an MTA.
    pub(super) fn queue_lifetime(&self, mta: &str) -> Option<i64> {
        let hours = self.queue_lifetime_hours.map(i64::from).or(match mta {
            "postfix" | "sendmail" => Some(120),
            "exim" | "opensmtpd" => Some(96),
            "qmail" => Some(168),
            _ => None,
        })?;
        Some(hours * 3600)
    }
}
