//! Chaining (RFC 3887, 2.4): where a message went on elsewhere, the next host's tracking server is asked on the client's behalf.
//!
//! Everything together takes no longer than the config says (two minutes at most), asks no more hosts than it says, never a
//! private address that nobody listed, and never for a claim that is being asked for already: so a loop of servers ends at
//! the second visit. What cannot be had is reported as what we know: "relayed".

use super::addresses::{Range, is_public};
use super::answer::Answer;
use super::client::{ClientError, Options, TlsMode, connect};
use super::command::Claim;
use super::config::{ChainConfig, TlsVersion};
use super::names::{Names, Target};
use super::reply::Indicator;
use super::tls::TlsError;
use crate::model::event::Action;
use crate::trkstat::{self, Part, from_xtext};
use rustls::RootCertStore;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Asks other servers.
pub struct Chain {
    config: ChainConfig,
    allowed: Vec<Range>,
    names: Names,
    roots: Arc<RootCertStore>,
    /// Claims that are being asked for: a server that asks us back in turn gets what we know.
    asking: Mutex<HashSet<Claim>>,
}

/// Most parts that one host's answer adds.
const MAX_PARTS: usize = 64;

impl Chain {
    /// A chain by config; `None` where nobody is to be asked. Call it within a tokio runtime.
    ///
    /// # Errors
    /// When the CA file cannot be read.
    pub fn new(config: &ChainConfig, names: Names) -> Result<Option<Self>, TlsError> {
        if config.ask.is_empty() {
            return Ok(None);
        }
        let roots = super::tls::roots(config.ca_file.as_deref())?;
        let allowed = config.allow_addresses.iter().filter_map(|a| a.parse().ok()).collect();
        Ok(Some(Chain { config: config.clone(), allowed, names, roots, asking: Mutex::new(HashSet::new()) }))
    }

    /// Adds to an answer what next hosts say. `level` is the TLS of the client's own session: the next hop gets the same or better.
    pub async fn extend(&self, answer: &mut Answer, claim: &Claim, level: Option<TlsVersion>) {
        let Some(_turn) = self.begin(claim) else { return };
        let mut hosts: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for o in &answer.onward {
            let known = hosts.contains_key(&o.host);
            if self.may_ask(&o.host) && (known || hosts.len() < self.config.max_hosts) {
                hosts.entry(o.host.clone()).or_default().push((o.part, o.recipient));
            }
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(self.config.timeout_seconds);
        let asked = hosts.into_iter().map(|(host, whom)| async move {
            let said = tokio::time::timeout_at(deadline, self.ask(&host, claim, level)).await;
            (host, whom, said.unwrap_or(Err(ClientError::Timeout("chaining"))))
        });
        for (host, whom, said) in together(asked).await {
            match said {
                Ok(parts) if !parts.is_empty() => take(answer, &whom, parts),
                Ok(_) => tracing::debug!(host, "the next tracking server knows nothing"),
                Err(e) => tracing::info!(host, error = %e, "the next tracking server could not be asked"),
            }
        }
    }

    fn begin<'a>(&'a self, claim: &Claim) -> Option<Turn<'a>> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.insert(claim.clone()).then(|| Turn { chain: self, claim: claim.clone() })
    }

    fn may_ask(&self, host: &str) -> bool {
        self.config.ask.iter().any(|a| a == "*") || super::answer::in_domains(host, &self.config.ask)
    }

    fn may_connect(&self, t: &Target) -> bool {
        let ip = super::addresses::plain(&t.address.ip());
        t.listed || is_public(&ip) || self.allowed.iter().any(|r| r.holds(&ip))
    }

    /// The parts that one host's tracking server has, of this very message.
    async fn ask(&self, host: &str, claim: &Claim, level: Option<TlsVersion>) -> Result<Vec<Part>, ClientError> {
        let targets = self.names.servers(host, None).await.map_err(|e| ClientError::Refused(e.to_string()))?;
        let targets: Vec<Target> = targets.into_iter().filter(|t| self.may_connect(t)).take(4).collect();
        let mut options = Options::new(if level.is_some() { TlsMode::Require } else { TlsMode::Prefer }, self.roots.clone());
        options.least = level.unwrap_or_default();
        options.verify = self.config.verify_certificates;
        options.max_answer_bytes = self.config.max_answer_kibibytes << 10;
        let mut connection = connect(&targets, &options).await?;
        let reply = connection.track(std::slice::from_ref(claim)).await?.pop();
        // Nothing waits for the goodbye; the connection ends with this call.
        let Some(reply) = reply.filter(|r| r.indicator == Indicator::OkMulti) else { return Ok(vec![]) };
        let wanted = from_xtext(&claim.envelope_id);
        let parts = trkstat::read(&reply.data).unwrap_or_default();
        let ours = |p: &Part| from_xtext(super::command::bare(&p.envelope_id)) == wanted;
        let says = |p: &Part| p.recipients.iter().any(|r| r.action != Action::Opaque);
        Ok(parts.into_iter().filter(|p| ours(p) && says(p)).filter_map(sound).take(MAX_PARTS).collect())
    }
}

/// A part of somebody else's as our strict writer takes it: extension fields are left out, what cannot be written is dropped.
fn sound(mut p: Part) -> Option<Part> {
    p.extensions.clear();
    p.recipients.iter_mut().for_each(|r| r.extensions.clear());
    p.recipients.truncate(1_000);
    trkstat::write(std::slice::from_ref(&p)).ok().map(|_| p)
}

/// The parts of a next host follow ours, and the recipients that led there are "transferred": more follows in this answer.
fn take(answer: &mut Answer, whom: &[(usize, usize)], parts: Vec<Part>) {
    let own_id = answer.parts.first().map(|p| p.envelope_id.clone());
    for (part, recipient) in whom {
        let Some(r) = answer.parts.get_mut(*part).and_then(|p| p.recipients.get_mut(*recipient)) else { continue };
        if r.action == Action::Relayed {
            r.action = Action::Transferred;
            r.status = "2.4.0".into();
        }
    }
    for mut p in parts {
        if let Some(id) = &own_id {
            p.envelope_id.clone_from(id);
        }
        if !answer.parts.contains(&p) {
            answer.parts.push(p);
        }
    }
}

struct Turn<'a> {
    chain: &'a Chain,
    claim: Claim,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.chain.asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.claim);
    }
}

/// Runs futures side by side and gives their results in order.
async fn together<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<(std::pin::Pin<Box<F>>, Option<F::Output>)> = all.map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut waiting = false;
        for (f, done) in running.iter_mut().filter(|(_, done)| done.is_none()) {
            match f.as_mut().poll(cx) {
                std::task::Poll::Ready(out) => *done = Some(out),
                std::task::Poll::Pending => waiting = true,
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn private_addresses_are_never_asked_unless_listed() {
        let config = ChainConfig { ask: vec!["b.test".into()], allow_addresses: vec!["10.1.0.0/16".into()], ..ChainConfig::default() };
        let chain = Chain::new(&config, Names::listed(&BTreeMap::new())).unwrap().unwrap();
        let target = |a: &str, listed| Target { name: "mx.b.test".into(), address: a.parse().unwrap(), listed };
        for private in
            ["127.0.0.1:1038", "10.2.0.1:1038", "169.254.169.254:80", "[::1]:1038", "[::ffff:192.168.0.1]:1038", "[fd00::1]:1038"]
        {
            assert!(!chain.may_connect(&target(private, false)), "{private}");
            assert!(chain.may_connect(&target(private, true)), "{private}");
        }
        assert!(chain.may_connect(&target("10.1.2.3:1038", false)) && chain.may_connect(&target("8.8.8.8:1038", false)));
        assert!(chain.may_ask("mx.b.test") && chain.may_ask("b.test") && !chain.may_ask("mx.notb.test") && !chain.may_ask("c.test"));
    }

    #[tokio::test]
    async fn a_claim_that_is_being_asked_for_is_not_asked_for_again() {
        let config = ChainConfig { ask: vec!["*".into()], ..ChainConfig::default() };
        let chain = Chain::new(&config, Names::listed(&BTreeMap::new())).unwrap().unwrap();
        let claim = Claim { envelope_id: "e@x".into(), secret: super::super::command::Secret::new(vec![1]) };
        let turn = chain.begin(&claim).unwrap();
        assert!(chain.begin(&claim).is_none());
        drop(turn);
        assert!(chain.begin(&claim).is_some());
    }
}
