//! `msgtrk sent`: what was sent with `msgtrk submit`, and what became of it.

pub mod store;

use super::submit::settings::Settings;
use super::text::{Table, clean, columns, dim};
use super::{Context, text, track};
use crate::mtqp::command::{Claim, bare};
use crate::mtqp::uri::Uri;
use anstyle::Style;
use anyhow::{anyhow, bail};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use store::{Sent, SentStore, State};

#[derive(clap::Args)]
#[command(
    after_help = "`msgtrk sent url ID` prints the URL that opens the message's state to whoever has it. ID is an envelope id or a Message-ID."
)]
pub struct Arguments {
    /// url ID: print the tracking URL of a message
    #[arg(value_name = "url ID", num_args = 0..=2)]
    url: Vec<String>,
    /// Ask the tracking servers what became of those that are still under way
    #[arg(long, conflicts_with = "url")]
    refresh: bool,
    /// Take NAME's tracking server to be at ADDR:PORT, whatever the DNS says
    #[arg(long, value_name = "NAME=ADDR:PORT")]
    resolve: Vec<String>,
    /// PEM file of further root certificates
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// One JSON object a message (without secrets)
    #[arg(long, conflicts_with = "url")]
    json: bool,
    /// How many, the latest; 0 is all
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Settings [default: ~/.config/msgtrk/submit.toml]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Folder where secrets are kept [default: ~/.local/share/msgtrk-sent]
    #[arg(long, value_name = "DIR", env = "MSGTRK_SENT", hide_env_values = true)]
    store: Option<PathBuf>,
}

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    let named = match &a.store {
        Some(dir) => Some(dir.clone()),
        None => Settings::read(a.settings.as_deref())?.store,
    };
    let store = SentStore::open(named.as_deref())?;
    let (mut all, wrong) = store.all()?;
    wrong.iter().for_each(|w| anstream::eprintln!("msgtrk: warning: {}", clean(w)));
    match a.url.as_slice() {
        [] => {}
        [word, id] if word.eq_ignore_ascii_case("url") => return url(&all, id),
        _ => bail!("`msgtrk sent url ID` prints a URL; without words the list is shown"),
    }
    let mut code = ExitCode::SUCCESS;
    if a.refresh && !refresh(cx, a, &store, &mut all)? {
        code = ExitCode::from(2);
    }
    if all.is_empty() {
        anstream::eprintln!("nothing found: nothing was sent with `msgtrk submit` yet");
        return Ok(ExitCode::from(1));
    }
    let skip = if a.limit == 0 { 0 } else { all.len().saturating_sub(a.limit) };
    let shown = all.get(skip..).unwrap_or_default();
    if a.json {
        let mut out = std::io::stdout().lock();
        for sent in shown {
            let mut value = serde_json::to_value(sent)?;
            value.as_object_mut().map(|o| o.remove("secret"));
            writeln!(out, "{value}")?;
        }
        return Ok(code);
    }
    let mut table = Table::new(&["SENT", "STATE", "TO", "SUBJECT", "ENVELOPE ID"]);
    for sent in shown {
        let plain = Style::new();
        table.row(vec![
            (text::moment(cx.zone, sent.sent * 1_000_000, false), plain),
            (state(sent), plain),
            (sent.to.join(","), plain),
            (sent.subject.clone(), plain),
            (sent.envelope_id.clone(), dim()),
        ]);
    }
    anstream::print!("{}", table.render(columns()));
    Ok(code)
}

/// In a word or two.
fn state(sent: &Sent) -> String {
    if sent.reply.is_none() {
        return "not known to be sent".into();
    }
    if !sent.tracked {
        return "sent, untracked".into();
    }
    let mut words: Vec<&str> = sent.states.iter().map(|s| s.action.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    if words.is_empty() { "sent".into() } else { words.join(",") }
}

fn uri(sent: &Sent) -> anyhow::Result<Uri> {
    let odd = || anyhow!("{}: `{}` is no tracking server", clean(&sent.envelope_id), clean(&sent.server));
    let probe: Uri = format!("mtqp://{}/track/x/eA==", sent.server).parse().map_err(|_| odd())?;
    Ok(Uri { claim: Claim { envelope_id: sent.envelope_id.clone(), secret: sent.secret()? }, ..probe })
}

fn url(all: &[Sent], id: &str) -> anyhow::Result<ExitCode> {
    let id = bare(id);
    let Some(sent) = all.iter().rev().find(|s| s.envelope_id == id || s.message_id == id) else {
        anstream::eprintln!("nothing found: no message with this envelope id or Message-ID was sent with `msgtrk submit`");
        return Ok(ExitCode::from(1));
    };
    if !sent.tracked {
        bail!("{}: it was not marked for tracking when it was sent", clean(id));
    }
    println!("{}", uri(sent)?);
    Ok(ExitCode::SUCCESS)
}

/// Asks for all that is under way, and tells what changed; whether every server answered.
fn refresh(cx: &Context, a: &Arguments, store: &SentStore, all: &mut [Sent]) -> anyhow::Result<bool> {
    let open: Vec<&mut Sent> = all.iter_mut().filter(|s| s.tracked && !s.is_over()).collect();
    let uris: Vec<Uri> = open.iter().map(|s| uri(s)).collect::<Result<_, _>>()?;
    let answers = track::journeys(cx, &uris, &a.resolve, a.ca.as_deref())?;
    let mut fine = true;
    for (sent, answer) in open.into_iter().zip(answers) {
        let journey = match answer {
            Ok(journey) => journey,
            Err(e) => {
                anstream::eprintln!("msgtrk: {}: {}", clean(&sent.envelope_id), clean(&super::in_words(&e)));
                fine = false;
                continue;
            }
        };
        let ends = journey.iter().flat_map(|j| &j.endings);
        let states: Vec<State> = ends
            .map(|e| State {
                recipient: e.original_recipient.clone(),
                action: e.last.action.as_str().to_string(),
                status: e.last.status.clone(),
                at: e.at.clone(),
            })
            .collect();
        for s in states.iter().filter(|s| !sent.states.contains(s)) {
            let before = sent.states.iter().find(|b| b.recipient == s.recipient).map_or("sent", |b| b.action.as_str());
            let line = format!("{}: {} is {} ({}) at {}, was {before}", sent.subject, s.recipient, s.action, s.status, s.at);
            anstream::println!("{}", clean(&line));
        }
        if journey.is_none() {
            anstream::eprintln!(
                "msgtrk: {}: the server {} does not know it (yet, or any more)",
                clean(&sent.envelope_id),
                clean(&sent.server)
            );
        } else {
            sent.states = states;
        }
        sent.asked = Some(cx.now.div_euclid(1_000_000));
        store.put(sent)?;
    }
    Ok(fine)
}
