//! `msgtrk track`: the MTQP client.

mod memory;
mod view;

use super::text::clean;
use super::{Context, json, trace};
use crate::model::event::Action;
use crate::model::journey::Journey;
use crate::mtqp::addresses::is_public;
use crate::mtqp::client::{Connection, Options, TlsMode, connect};
use crate::mtqp::command::{Claim, Secret, bare, is_domain};
use crate::mtqp::names::{Names, Target};
use crate::mtqp::reply::{Indicator, Reply};
use crate::mtqp::tls;
use crate::mtqp::uri::Uri;
use crate::trkstat::{self, Part};
use anyhow::{Context as _, anyhow, bail};
use memory::Memory;
use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = "Where the answer says that another host took the message and tracks it, that host is asked, too. Which servers \
offered TLS, and with which certificate, is remembered; a warning says when one stops or shows another certificate.")]
pub struct Arguments {
    /// mtqp://host[:port]/track/envelope-id/secret
    #[arg(value_name = "URL", conflicts_with = "batch")]
    url: Option<String>,
    /// The URL's parts instead: server
    #[arg(long, value_name = "HOST[:PORT]", requires = "envelope_id", requires = "secret", conflicts_with = "url")]
    server: Option<String>,
    /// The URL's parts instead: envelope id
    #[arg(long, value_name = "ID", requires = "server")]
    envelope_id: Option<String>,
    /// The URL's parts instead: secret, base64
    #[arg(long, value_name = "BASE64", requires = "server")]
    secret: Option<String>,
    /// Many URLs, one a line, from a file or - for standard input; asked for in batches
    #[arg(long, value_name = "FILE")]
    batch: Option<PathBuf>,
    /// TLS: require (certificate checked), prefer, off
    #[arg(long, value_name = "HOW", default_value = "prefer", value_parser = ["require", "prefer", "off"])]
    tls: String,
    /// PEM file of further root certificates
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Take NAME's tracking server to be at ADDR:PORT, whatever the DNS says
    #[arg(long, value_name = "NAME=ADDR:PORT")]
    resolve: Vec<String>,
    /// Seconds to wait for an answer; servers that ask others take up to 120
    #[arg(long, value_name = "S", default_value_t = 130, value_parser = clap::value_parser!(u64).range(120..=3600))]
    timeout: u64,
    /// Ask the named server only
    #[arg(long)]
    no_referrals: bool,
    /// Where to remember servers [default: in the state folder of the user]
    #[arg(long, value_name = "FILE")]
    memory: Option<PathBuf>,
    /// One JSON object a message
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// The answer as the server sent it
    #[arg(long)]
    raw: bool,
}

/// Most messages that are asked for in one session: servers bound the commands of one.
const MAX_CLAIMS: usize = 1_000;
/// Most hosts that are asked for one message.
const MAX_HOSTS: usize = 16;

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    let wanted = wanted(a)?;
    let mut options = Options::new(
        match a.tls.as_str() {
            "require" => TlsMode::Require,
            "off" => TlsMode::Off,
            _ => TlsMode::Prefer,
        },
        tls::roots(a.ca.as_deref())?,
    );
    options.answer_timeout = Duration::from_secs(a.timeout);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let memory = Memory::open(a.memory.clone());
    let mut agent = Agent { options, names: None, fixed: fixed(&a.resolve)?, name_servers: cx.name_servers.clone(), memory };
    let answers = runtime.block_on(agent.all(&wanted, !a.no_referrals && !a.raw));
    agent.memory.save();
    let mut code = ExitCode::SUCCESS;
    for (uri, answer) in wanted.iter().zip(answers) {
        match answer {
            Ok(found) => {
                if !show(cx, a, &found)? && a.batch.is_none() {
                    code = ExitCode::from(1);
                }
            }
            Err(e) if a.batch.is_some() => {
                anstream::eprintln!("msgtrk: {}: {}", clean(&uri.claim.envelope_id), clean(&super::in_words(&e)));
                code = ExitCode::from(2);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(code)
}

/// The state of each message by its URL, referrals followed; `None` where the server knows nothing of it.
///
/// # Errors
/// When nothing can be asked at all.
pub(super) fn journeys(
    cx: &Context,
    wanted: &[Uri],
    resolve: &[String],
    ca: Option<&std::path::Path>,
) -> anyhow::Result<Vec<anyhow::Result<Option<Journey>>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = Options::new(TlsMode::Prefer, tls::roots(ca)?);
    let mut agent =
        Agent { options, names: None, fixed: fixed(resolve)?, name_servers: cx.name_servers.clone(), memory: Memory::open(None) };
    let answers = runtime.block_on(agent.all(wanted, true));
    agent.memory.save();
    let one = |f: Found| (!f.parts.is_empty()).then(|| view::journey(&f.parts));
    Ok(answers.into_iter().map(|a| a.map(one)).collect())
}

fn wanted(a: &Arguments) -> anyhow::Result<Vec<Uri>> {
    if let Some(path) = &a.batch {
        let reader: Box<dyn std::io::BufRead> = match path.as_os_str() == "-" {
            true => Box::new(std::io::stdin().lock()),
            false => Box::new(std::io::BufReader::new(std::fs::File::open(path).with_context(|| path.display().to_string())?)),
        };
        let mut all = Vec::new();
        for (n, line) in reader.lines().enumerate() {
            let line = line.with_context(|| path.display().to_string())?;
            if !line.trim().is_empty() && !line.starts_with('#') {
                all.push(line.parse().with_context(|| format!("{} line {}", path.display(), n + 1))?);
            }
        }
        return Ok(all);
    }
    if let (Some(server), Some(id), Some(secret)) = (&a.server, &a.envelope_id, &a.secret) {
        let secret = Secret::from_base64(secret).ok_or_else(|| anyhow!("--secret is no base64"))?;
        let mut uri: Uri =
            format!("mtqp://{server}/track/x/eA==").parse().map_err(|_| anyhow!("--server: `{}` is no host", clean(server)))?;
        if bare(id).is_empty() || !bare(id).bytes().all(|b| b.is_ascii_graphic()) {
            bail!("--envelope-id: printable ASCII without spaces");
        }
        uri.claim = Claim { envelope_id: bare(id).to_string(), secret };
        return Ok(vec![uri]);
    }
    Ok(vec![a.url.as_deref().ok_or_else(|| anyhow!("name an mtqp:// URL, or --server, --envelope-id and --secret, or --batch"))?.parse()?])
}

fn fixed(all: &[String]) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
    let one = |t: &String| {
        let (name, address) = t.split_once('=').ok_or_else(|| anyhow!("--resolve: `{}` is not NAME=ADDR:PORT", clean(t)))?;
        Ok((name.to_string(), address.parse().with_context(|| format!("--resolve {}", clean(t)))?))
    };
    all.iter().map(one).collect()
}

/// What one server said, and what those it referred to added.
struct Found {
    reply: Reply,
    parts: Vec<Part>,
}

struct Agent {
    options: Options,
    names: Option<Names>,
    fixed: BTreeMap<String, SocketAddr>,
    name_servers: Vec<SocketAddr>,
    memory: Memory,
}

impl Agent {
    /// Answers in the order of the URLs; those of one server in one session.
    async fn all(&mut self, wanted: &[Uri], referrals: bool) -> Vec<anyhow::Result<Found>> {
        self.names = Some(Names::by_dns(&self.fixed, &self.name_servers));
        let mut by_server: BTreeMap<(String, Option<u16>), Vec<usize>> = BTreeMap::new();
        for (n, uri) in wanted.iter().enumerate() {
            by_server.entry((uri.host.clone(), uri.port)).or_default().push(n);
        }
        let mut answers: Vec<Option<anyhow::Result<Found>>> = wanted.iter().map(|_| None).collect();
        let sessions = by_server
            .into_iter()
            .flat_map(|(server, places)| places.chunks(MAX_CLAIMS).map(|some| (server.clone(), some.to_vec())).collect::<Vec<_>>());
        for ((host, port), places) in sessions {
            let claims: Vec<Claim> = places.iter().filter_map(|n| Some(wanted.get(*n)?.claim.clone())).collect();
            let said = self.ask(&host, port, &claims, None).await;
            let peer = said.as_ref().ok().map(|(_, peer)| *peer);
            let mut replies = match said {
                Ok((replies, _)) => replies.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(e) => claims.iter().map(|_| Err(anyhow!("{}: {}", clean(&host), super::in_words(&e)))).collect(),
            };
            for (place, claim) in places.iter().zip(&claims).rev() {
                let found = match replies.pop() {
                    Some(Ok(reply)) => self.followed(&host, claim, reply, referrals, peer).await,
                    Some(Err(e)) => Err(e),
                    None => Err(anyhow!("no answer")),
                };
                if let Some(slot) = answers.get_mut(*place) {
                    *slot = Some(found);
                }
            }
        }
        answers.into_iter().map(|a| a.unwrap_or_else(|| Err(anyhow!("no answer")))).collect()
    }

    /// One session; and the address of who took it. `by`: the address of the server whose word it is that this host be asked.
    async fn ask(&mut self, host: &str, port: Option<u16>, claims: &[Claim], by: Option<IpAddr>) -> anyhow::Result<(Vec<Reply>, IpAddr)> {
        let names = self.names.as_ref().context("names")?;
        let mut targets = names.servers(host, port).await?;
        targets.retain(|t| by.is_none_or(|by| may_follow(&by, t)));
        let mut connection: Connection = connect(&targets, &self.options).await?;
        let peer = connection.peer.ip();
        let key = port.map_or_else(|| host.to_string(), |p| format!("{host}:{p}"));
        let wanted = self.options.tls != TlsMode::Off;
        for warning in self.memory.learn(&key, connection.offered_tls, wanted, connection.tls.as_ref()) {
            anstream::eprintln!("msgtrk: warning: {}", clean(&warning));
        }
        let replies = connection.track(claims).await?;
        connection.quit().await;
        Ok((replies, peer))
    }

    /// Asks on where the message was transferred to a host that this answer has no part of (RFC 3886, 3.3.3).
    async fn followed(&mut self, host: &str, claim: &Claim, reply: Reply, referrals: bool, peer: Option<IpAddr>) -> anyhow::Result<Found> {
        let mut parts = parts_of(&reply, claim)?;
        // The address that sent each part.
        let mut from = vec![peer; parts.len()];
        let mut asked = vec![host.to_ascii_lowercase()];
        while let Some((next, by)) = unfollowed(&parts).into_iter().find(|(h, _)| referrals && !asked.contains(h)) {
            if asked.len() >= MAX_HOSTS {
                anstream::eprintln!("msgtrk: warning: more hosts than are asked for one message");
                break;
            }
            asked.push(next.clone());
            let by = from.get(by).copied().flatten();
            match self.ask(&next, None, std::slice::from_ref(claim), by).await {
                Ok((replies, peer)) => {
                    for r in replies {
                        parts.extend(parts_of(&r, claim).unwrap_or_default().into_iter().filter(|p| !view::is_opaque(p)));
                    }
                    from.resize(parts.len(), Some(peer));
                }
                Err(e) => anstream::eprintln!(
                    "msgtrk: warning: {} took the message, but cannot be asked: {}",
                    clean(&next),
                    clean(&super::in_words(&e))
                ),
            }
        }
        Ok(Found { reply, parts })
    }
}

/// The parts of an answer that are of the message asked for.
fn parts_of(reply: &Reply, claim: &Claim) -> anyhow::Result<Vec<Part>> {
    if reply.indicator != Indicator::OkMulti {
        return Ok(vec![]);
    }
    let wanted = trkstat::from_xtext(&claim.envelope_id);
    let parts = trkstat::read(&reply.data)?;
    Ok(parts.into_iter().filter(|p| trkstat::from_xtext(bare(&p.envelope_id)) == wanted).collect())
}

/// Whether the word of the server at this address may lead to a target: a public one's never to a private address. What counts is
/// the address that answered: a public host's name may have private addresses, too.
fn may_follow(by: &IpAddr, to: &Target) -> bool {
    to.listed || !is_public(by) || is_public(&to.address.ip())
}

/// Hosts that took the message and track it, and that no part is from; each with the place of the part that names it.
fn unfollowed(parts: &[Part]) -> Vec<(String, usize)> {
    let recipients = parts.iter().enumerate().flat_map(|(n, p)| p.recipients.iter().map(move |r| (n, r)));
    let transferred = recipients.filter(|(_, r)| r.action == Action::Transferred);
    let hosts = transferred.filter_map(|(n, r)| Some((r.remote_mta.as_ref().filter(|m| m.kind == "dns")?.name.to_ascii_lowercase(), n)));
    let open = |h: &str| is_domain(h) && !parts.iter().any(|p| p.reporting_mta.name.eq_ignore_ascii_case(h));
    hosts.filter(|(h, _)| open(h)).collect()
}

/// Prints one answer; whether anything is known of the message.
fn show(cx: &Context, a: &Arguments, found: &Found) -> anyhow::Result<bool> {
    let mut out = std::io::BufWriter::new(anstream::stdout());
    if a.raw {
        let status = format!("{} {}", found.reply.indicator.as_str(), found.reply.text);
        writeln!(out, "{}", clean(&status))?;
        for line in String::from_utf8_lossy(&found.reply.data).lines() {
            writeln!(out, "{}", clean(line))?;
        }
        out.flush()?;
        return Ok(found.reply.indicator == Indicator::OkMulti);
    }
    if found.parts.is_empty() {
        let r = &found.reply;
        if !matches!(r.indicator, Indicator::Err | Indicator::OkMulti) || r.info.iter().any(|i| i != "noinfo") {
            bail!("the server says {}/{} {}", r.indicator.as_str(), r.info.join("/"), clean(&r.text));
        }
        anstream::eprintln!("nothing found: the server knows no such message, or the secret is another one");
        return Ok(false);
    }
    let journey = view::journey(&found.parts);
    match a.json {
        true => {
            drop(out);
            let mut text = serde_json::to_vec(&json::journeys(std::slice::from_ref(&journey), false))?;
            text.push(b'\n');
            std::io::stdout().write_all(&text)?;
        }
        false => {
            write!(out, "{}", trace::show(cx, &journey, false))?;
            out.flush()?;
        }
    }
    Ok(!found.parts.iter().all(view::is_opaque))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trkstat::{Address, Mta, Recipient};

    fn target(address: &str, listed: bool) -> Target {
        Target { name: "b.test".into(), address: address.parse().unwrap(), listed }
    }

    #[test]
    fn a_public_servers_word_leads_to_no_private_address() {
        let public: IpAddr = "8.8.8.8".parse().unwrap();
        for private in ["127.0.0.1:1038", "10.0.0.1:1038", "[::1]:1038", "[::ffff:127.0.0.1]:1038", "169.254.169.254:80"] {
            assert!(!may_follow(&public, &target(private, false)), "{private}");
            assert!(may_follow(&public, &target(private, true)), "{private}: the user named it");
            assert!(may_follow(&"10.0.0.9".parse().unwrap(), &target(private, false)), "{private}");
        }
        assert!(may_follow(&public, &target("1.1.1.1:1038", false)));
    }

    #[test]
    fn rfc3886_3_3_3_only_transferred_is_followed() {
        let mut part = Part {
            envelope_id: "e@x".into(),
            reporting_mta: Mta::dns("a.test"),
            arrival_date: 900,
            extensions: vec![],
            recipients: vec![],
        };
        for (n, action) in
            [Action::Relayed, Action::Delivered, Action::Expanded, Action::Failed, Action::Transferred].into_iter().enumerate()
        {
            let next = Some(Mta::dns(format!("Mx{n}.b.test")));
            let who = Address::mail("u@x");
            part.recipients.push(Recipient {
                action,
                remote_mta: next,
                last_attempt_date: Some(1_000),
                ..Recipient::opaque(who.clone(), who)
            });
        }
        assert_eq!(unfollowed(std::slice::from_ref(&part)), [("mx4.b.test".to_string(), 0)]);
        let answered = Part { reporting_mta: Mta::dns("MX4.b.test"), recipients: vec![], ..part.clone() };
        assert_eq!(unfollowed(&[part.clone(), answered]), []);
        // What is no host name is none, whoever says so.
        part.recipients.retain(|r| r.action == Action::Transferred);
        part.recipients.iter_mut().for_each(|r| r.remote_mta = Some(Mta::dns("b.test\rQUIT")));
        assert_eq!(unfollowed(&[part]), []);
    }
}
