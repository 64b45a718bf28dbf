//! `msgtrk grant` and `msgtrk revoke`: who may track a message over MTQP.

use super::text::clean;
use super::{Context, backfill, text, times};
use crate::ingest::bind::{Bind, change};
use crate::ingest::commit::{Committer, Sink, Work};
use crate::model::journey::{bare_id, folded, trace};
use crate::model::record::{Record, Role, StoredRecord};
use crate::model::time::{Precision, SECOND, rfc3339};
use crate::mtqp::command::{Claim, Secret};
use crate::mtqp::uri::Uri;
use crate::store::{Seen, Store};
use anyhow::{Context as _, anyhow, bail};
use serde::Serialize;
use std::io::Write as _;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "The URL opens this message, and no other, to whoever has it, until it expires or `msgtrk revoke` takes it back. \
An id that names several messages is refused with a list; name one of them by its key then.")]
pub struct Arguments {
    /// Message-ID, queue id, ENVID or record key, with or without <>
    #[arg(value_name = "ID")]
    id: String,
    /// Show this recipient only
    #[arg(long = "for", value_name = "RECIPIENT")]
    recipient: Option<String>,
    /// How long from now on (12h, 10d, 2w)
    #[arg(long, value_name = "TIME", default_value = "10d")]
    timeout: String,
    /// Tracking server to be named in the URL [default: this machine]
    #[arg(long, value_name = "HOST[:PORT]")]
    server: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct RevokeArguments {
    /// mtqp:// URL, or envelope id (all that was granted under it)
    #[arg(value_name = "URL|ENVELOPE-ID")]
    what: String,
}

#[derive(Serialize)]
struct Granted<'a> {
    envelope_id: &'a str,
    secret: String,
    certifier: String,
    url: String,
    expires: String,
}

/// Bytes of a secret: 128 bits at least (RFC 3885, 3.1).
const SECRET_BYTES: usize = 20;

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    let span = times::ago(a.timeout.trim())
        .filter(|s| *s > 0)
        .ok_or_else(|| anyhow!("--timeout: `{}` is no time like 12h, 10d, 2w", a.timeout))?;
    let (host, port) = server(a.server.as_deref())?;
    let store = cx.open()?;
    // The writer first: what is read then cannot change under our feet.
    let mut committer = Committer::new(&store)?;
    let found = roots(&store, &a.id)?;
    let fit: Vec<StoredRecord> = found.iter().filter(|s| a.recipient.as_deref().is_none_or(|r| has(&s.derive(), r))).cloned().collect();
    let root = match fit.as_slice() {
        [one] => one,
        [] if found.is_empty() => {
            anstream::eprintln!("nothing found: no message bears this id");
            return Ok(ExitCode::from(1));
        }
        [] => bail!("{} is no recipient of this message", a.recipient.as_deref().unwrap_or_default()),
        several => {
            anstream::eprintln!("{}", list(cx, several));
            bail!("{} messages begin under this id: name one of them by its key", several.len());
        }
    };
    let mut random = [0u8; SECRET_BYTES + 12];
    getrandom::fill(&mut random).map_err(|e| anyhow!("no random numbers: {e}"))?;
    let (secret, unique) = random.split_at_checked(SECRET_BYTES).context("random")?;
    let secret = Secret::new(secret.to_vec());
    let envelope_id = format!("{}@{host}", unique.iter().map(|b| format!("{b:02x}")).collect::<String>());
    let certifier = secret.certifier();
    let expires = cx.now.saturating_add(span).div_euclid(SECOND);
    let bind = Bind {
        envelope_id: &envelope_id,
        certifier: &certifier,
        expires: Some(expires),
        recipient: a.recipient.as_deref(),
        by: "msgtrk grant",
        now: cx.now,
    };
    committer.commit(Work { changes: vec![change(root, &bind)?], ..Work::default() })?;
    let url = Uri { host, port, claim: Claim { envelope_id: envelope_id.clone(), secret: secret.clone() } }.to_string();
    let expires = rfc3339(expires * SECOND, Precision::Second);
    let mut out = std::io::stdout();
    if a.json {
        let granted = Granted { envelope_id: &envelope_id, secret: secret.to_base64(), certifier, url, expires };
        writeln!(out, "{}", serde_json::to_string(&granted)?)?;
    } else {
        writeln!(out, "{url}")?;
        anstream::eprintln!("opens {} until {expires}", clean(&root.key));
    }
    Ok(ExitCode::SUCCESS)
}

/// Name and port of the tracking server that the URL names.
fn server(named: Option<&str>) -> anyhow::Result<(String, Option<u16>)> {
    let text = named.map_or_else(backfill::this_host, str::to_string);
    // The URL's own reader says what a server may be called.
    let probe: Uri = format!("mtqp://{text}/track/x/eA==").parse().map_err(|_| anyhow!("--server: `{}` is no host name", clean(&text)))?;
    Ok((probe.host, probe.port))
}

fn has(r: &Record, recipient: &str) -> bool {
    let wanted = folded(recipient);
    r.recipients.iter().any(|p| folded(&p.original_recipient) == wanted || folded(&p.final_recipient) == wanted)
}

/// The record of a key, or the records that journeys of the id begin with.
fn roots(store: &Store, id: &str) -> anyhow::Result<Vec<StoredRecord>> {
    if let Some(one) = store.get(bare_id(id))? {
        return Ok(vec![one]);
    }
    let mut found = Vec::new();
    for j in trace(&mut store.walk(), id)? {
        let first = |r: &&Record| r.role == Role::Hop && !j.edges.iter().any(|e| e.to == r.key);
        for r in j.records.iter().filter(first) {
            found.extend(store.get(&r.key)?);
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found.dedup_by(|a, b| a.key == b.key);
    Ok(found)
}

fn list(cx: &Context, several: &[StoredRecord]) -> String {
    let line = |s: &StoredRecord| {
        let r = s.derive();
        let to: Vec<String> = r.recipients.iter().take(3).map(|p| clean(&p.original_recipient)).collect();
        let when = text::moment(cx.zone, r.arrival_date.micros, false);
        let from = clean(r.envelope_from.as_deref().unwrap_or("?"));
        format!("{}  {when}  from {from} to {}", clean(&s.key), to.join(", "))
    };
    several.iter().take(50).map(line).collect::<Vec<_>>().join("\n")
}

pub fn revoke(cx: &Context, a: &RevokeArguments) -> anyhow::Result<ExitCode> {
    let claim: Option<Claim> = match a.what.trim().get(..7) {
        Some(s) if s.eq_ignore_ascii_case("mtqp://") => Some(a.what.parse::<Uri>()?.claim),
        _ => None,
    };
    let envelope_id = claim.as_ref().map_or(bare_id(&a.what), |c| c.envelope_id.as_str());
    let certifier = claim.as_ref().map(|c| c.secret.certifier());
    let store = cx.open()?;
    let mut committer = Committer::new(&store)?;
    let mut changes = Vec::new();
    // A certifier names few records; an envelope id alone may be claimed by many.
    for r in store.by_id(certifier.as_deref().unwrap_or(envelope_id), 10_000, &mut Seen::default())? {
        let live = r.bindings.iter().filter(|b| b.envelope_id == envelope_id && !b.revoked);
        for b in live.filter(|b| certifier.as_deref().is_none_or(|c| c == b.certifier)) {
            let Some(stored) = store.get(&r.key)? else { continue };
            let back = Bind {
                envelope_id: &b.envelope_id,
                certifier: &b.certifier,
                expires: Some(0),
                recipient: b.recipient.as_deref(),
                by: "msgtrk revoke",
                now: cx.now,
            };
            changes.push(change(&stored, &back)?);
        }
    }
    if changes.is_empty() {
        anstream::eprintln!("nothing found: nothing is granted under this id");
        return Ok(ExitCode::from(1));
    }
    let n = changes.len();
    committer.commit(Work { changes, ..Work::default() })?;
    anstream::eprintln!("taken back: {n}");
    Ok(ExitCode::SUCCESS)
}
