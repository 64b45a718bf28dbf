//! `msgtrk submit`: sends a message as `sendmail` does, marked so that its sender can track it (RFC 3885, 3).

mod message;
pub mod settings;

use super::Context;
use super::backfill::this_host;
use super::sent::store::{SECRET_BYTES, Sent, SentStore};
use super::text::clean;
use crate::mtqp::command::Secret;
use crate::smtp::client::{Client, ClientError, stuffed};
use crate::smtp::command::{MAX_ENVID, to_xtext};
use crate::smtp::net::connector;
use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use message::{MAX_MESSAGE, Message, Missing, checked, prepare, until_dot};
use settings::{Mtrk, Settings, Tls};
use sha1::Digest as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(
    after_help = "Takes the options that programs give to sendmail: mutt (`set sendmail=\"msgtrk submit\"`), git (`sendemail.sendmailCmd`), \
cron and web applications can use it as it is. Options of sendmail that mean nothing here are taken and ignored. Settings stand in \
~/.config/msgtrk/submit.toml (contrib/submit.toml shows all). Exit status as sendmail's: 0 sent, 64 usage, 65 bad message or address, 67 a recipient \
was refused (nobody got it then), 69 refused for good, 75 try again later, 77 login refused, 78 settings."
)]
pub struct Arguments {
    /// Recipients
    #[arg(value_name = "ADDRESS")]
    recipients: Vec<String>,
    /// Recipients stand in To, Cc and Bcc
    #[arg(short = 't')]
    from_header: bool,
    /// A line with a lone dot does not end the message
    #[arg(short = 'i')]
    ignore_dots: bool,
    /// Sender of the envelope
    #[arg(short = 'f', short_alias = 'r', value_name = "ADDRESS")]
    from: Option<String>,
    /// Sender's name, for a message without From
    #[arg(short = 'F', value_name = "NAME")]
    full_name: Option<String>,
    /// When to be notified: never, or success, failure, delay with commas (DSN)
    #[arg(short = 'N', value_name = "WHEN")]
    notify: Option<String>,
    /// What a notification brings back: hdrs or full (DSN)
    #[arg(short = 'R', value_name = "WHAT")]
    ret: Option<String>,
    /// Options of sendmail that mean nothing here
    #[arg(short = 'o', hide = true)]
    o: Vec<String>,
    #[arg(short = 'O', hide = true)]
    big_o: Vec<String>,
    #[arg(short = 'b', hide = true)]
    b: Vec<String>,
    #[arg(short = 'B', hide = true)]
    big_b: Vec<String>,
    #[arg(short = 'V', hide = true)]
    envid: Option<String>,
    #[arg(short = 'm', hide = true, action = clap::ArgAction::Count)]
    m: u8,
    #[arg(short = 'n', hide = true, action = clap::ArgAction::Count)]
    n: u8,
    #[arg(short = 'v', hide = true, action = clap::ArgAction::Count)]
    v: u8,
    #[arg(short = 'U', hide = true, action = clap::ArgAction::Count)]
    u: u8,
    /// Submission server
    #[arg(long, value_name = "HOST[:PORT]")]
    server: Option<String>,
    /// TLS: starttls, implicit, off
    #[arg(long, value_enum, value_name = "HOW")]
    tls: Option<Tls>,
    /// Whether to mark it for tracking: require, prefer, off
    #[arg(long, value_enum, value_name = "HOW")]
    mtrk: Option<Mtrk>,
    /// Tracking server, where it is not the submission server's
    #[arg(long, value_name = "HOST[:PORT]")]
    tracking_server: Option<String>,
    /// PEM file of further root certificates
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Settings [default: ~/.config/msgtrk/submit.toml]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Folder where secrets are kept [default: ~/.local/share/msgtrk-sent]
    #[arg(long, value_name = "DIR", env = "MSGTRK_SENT", hide_env_values = true)]
    store: Option<PathBuf>,
}

/// Exit codes of sendmail (sysexits.h).
const USAGE: u8 = 64;
const DATA: u8 = 65;
const NO_USER: u8 = 67;
const UNAVAILABLE: u8 = 69;
const LATER: u8 = 75;
const NO_LOGIN: u8 = 77;
const CONFIG: u8 = 78;

/// Why it was not sent, with the exit code that says so.
struct NotSent(u8, anyhow::Error);

fn fails(code: u8) -> impl Fn(anyhow::Error) -> NotSent {
    move |e| NotSent(code, e)
}

pub fn run(cx: &Context, a: &Arguments) -> anyhow::Result<ExitCode> {
    match submit(cx, a) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(NotSent(code, e)) => {
            anstream::eprintln!("msgtrk: not sent: {}", clean(&super::in_words(&e)));
            Ok(ExitCode::from(code))
        }
    }
}

fn submit(cx: &Context, a: &Arguments) -> Result<(), NotSent> {
    let settings = merged(a).map_err(fails(CONFIG))?;
    let name = settings.name.clone().unwrap_or_else(this_host);
    let (message, sent, secret) = made(cx, a, &settings, &name, &input(a)?)?;
    let store = SentStore::open(settings.store.as_deref()).map_err(fails(CONFIG))?;
    // Before the first byte goes out: what is sent and then forgotten could never be tracked.
    store.put(&sent).map_err(fails(LATER))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| NotSent(LATER, e.into()))?;
    let job = Job { a, settings: &settings, name: &name, secret: &secret, message: &message };
    match runtime.block_on(job.send(&sent)) {
        Ok((false, _)) if settings.mtrk == Mtrk::Off => store.remove(&sent),
        Ok((tracked, reply)) => {
            // The message is out: that its state cannot be noted is no failure of sending it.
            if let Err(e) = store.put(&Sent { tracked, reply: Some(reply), ..sent }) {
                anstream::eprintln!("msgtrk: warning: sent, but that cannot be noted: {}", clean(&super::in_words(&e)));
            }
        }
        Err(e) => {
            // An end whose outcome is not known may be a message that was taken.
            if !e.maybe {
                store.remove(&sent);
            }
            return Err(e.why);
        }
    }
    Ok(())
}

/// The message as it came.
fn input(a: &Arguments) -> Result<Vec<u8>, NotSent> {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().take(MAX_MESSAGE + 1).read_to_end(&mut input);
    read.context("standard input").map_err(fails(DATA))?;
    if input.len() as u64 > MAX_MESSAGE {
        return Err(NotSent(DATA, anyhow!("a message of more than {MAX_MESSAGE} bytes")));
    }
    let ignore_dots = a.ignore_dots || a.o.iter().any(|o| o == "i");
    Ok(if ignore_dots { input } else { until_dot(&input).to_vec() })
}

/// The message made ready, what is to be remembered of it, and a secret that nothing else has.
fn made(cx: &Context, a: &Arguments, settings: &Settings, name: &str, input: &[u8]) -> Result<(Message, Sent, Secret), NotSent> {
    let mut random = [0; SECRET_BYTES + 32];
    getrandom::fill(&mut random).map_err(|e| NotSent(LATER, anyhow!("no random numbers: {e}")))?;
    let (secret, unique) = random.split_at_checked(SECRET_BYTES).unwrap_or_default();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let (for_envelope, for_message) = unique.split_at_checked(16).unwrap_or_default();
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "root".into());
    let guess = settings.from.clone().unwrap_or_else(|| format!("{user}@{name}"));
    let date = chrono::DateTime::from_timestamp_micros(cx.now).unwrap_or_default().to_rfc2822();
    let message_id = format!("{}@{name}", hex(for_message));
    let from = a.from.as_deref().unwrap_or(&guess);
    let missing = Missing { from, full_name: a.full_name.as_deref(), date: &date, message_id: &message_id };
    let message = prepare(input, &missing).map_err(fails(DATA))?;
    let sender = a.from.clone().or(message.from.clone()).unwrap_or(guess);
    let secret = Secret::new(secret.to_vec());
    let sent = Sent {
        version: 1,
        sent: cx.now.div_euclid(1_000_000),
        envelope_id: envelope_id(&hex(for_envelope), name),
        secret: secret.to_base64(),
        server: tracking_server(settings).map_err(fails(CONFIG))?,
        from: checked(&sender).map_err(fails(DATA))?,
        to: recipients(a, &message).map_err(fails(USAGE))?,
        subject: message.subject.clone(),
        message_id: message.message_id.clone(),
        tracked: false,
        reply: None,
        states: vec![],
        asked: None,
    };
    Ok((message, sent, secret))
}

fn merged(a: &Arguments) -> anyhow::Result<Settings> {
    let mut s = Settings::read(a.settings.as_deref())?;
    s.server = a.server.clone().or(s.server);
    s.tls = a.tls.unwrap_or(s.tls);
    s.mtrk = a.mtrk.unwrap_or(s.mtrk);
    s.tracking_server = a.tracking_server.clone().or(s.tracking_server);
    s.ca = a.ca.clone().or(s.ca);
    s.store = a.store.clone().or(s.store);
    if s.track_seconds.is_some_and(|t| t == 0 || t > 999_999_999) {
        bail!("track_seconds: 1 to 999999999");
    }
    s.server().map(|_| s)
}

fn tracking_server(s: &Settings) -> anyhow::Result<String> {
    match &s.tracking_server {
        Some(named) => Ok(named.clone()),
        None => s.server().map(|(host, _)| host),
    }
}

fn recipients(a: &Arguments, message: &Message) -> anyhow::Result<Vec<String>> {
    let named = a.recipients.iter().chain(message.named.iter().filter(|_| a.from_header));
    let mut to: Vec<String> = Vec::new();
    for address in named {
        let address = checked(address)?;
        if !to.contains(&address) {
            to.push(address);
        }
    }
    if to.is_empty() {
        bail!("no recipient: name one, or use -t");
    }
    Ok(to)
}

/// RFC 3885, 3.2: `local@fqhn`, and where that is longer than 100 characters the hash of the host's name in its place.
fn envelope_id(local: &str, host: &str) -> String {
    let whole = format!("{local}@{}", to_xtext(host.as_bytes()));
    if whole.len() <= MAX_ENVID {
        return whole;
    }
    format!("{local}@{}", to_xtext(STANDARD_NO_PAD.encode(sha1::Sha1::digest(host)).as_bytes()))
}

/// A failure, and whether the message may be out all the same.
struct Failed {
    why: NotSent,
    maybe: bool,
}

impl From<NotSent> for Failed {
    fn from(why: NotSent) -> Self {
        Failed { why, maybe: false }
    }
}

impl From<ClientError> for Failed {
    fn from(e: ClientError) -> Self {
        let code = match &e {
            ClientError::Refused { reply, what, .. } => match (reply.code, what.as_str()) {
                (500.., "AUTH") => NO_LOGIN,
                (500.., w) if w.starts_with("RCPT") => NO_USER,
                (500.., _) => UNAVAILABLE,
                _ => LATER,
            },
            ClientError::Cannot(..) => UNAVAILABLE,
            ClientError::Io { .. } | ClientError::Odd { .. } => LATER,
        };
        Failed { why: NotSent(code, e.into()), maybe: false }
    }
}

struct Job<'a> {
    a: &'a Arguments,
    settings: &'a Settings,
    name: &'a str,
    secret: &'a Secret,
    message: &'a Message,
}

impl Job<'_> {
    /// Sends it to all recipients or to none; whether it is marked, and the server's last word.
    async fn send(&self, sent: &Sent) -> Result<(bool, String), Failed> {
        let mut client = self.connected().await?;
        let tracks = match self.settings.mtrk {
            Mtrk::Off => false,
            Mtrk::Always => true,
            Mtrk::Require | Mtrk::Prefer => client.offer.mtrk,
        };
        if self.settings.mtrk == Mtrk::Require && !tracks {
            return Err(ClientError::Cannot("does not track messages (no MTRK), and --mtrk require asks for it", client.to.clone()).into());
        }
        let (mail, dsn) = (self.mail(&client, sent, tracks), client.offer.dsn || tracks);
        let reply = client.command(mail.as_bytes()).await?;
        client.want(reply, "MAIL")?;
        for to in &sent.to {
            let mut line = format!("RCPT TO:<{to}>");
            if dsn && to.is_ascii() {
                line.push_str(&format!(" ORCPT=rfc822;{}", to_xtext(to.as_bytes())));
            }
            if let Some(when) = self.a.notify.as_deref().filter(|_| client.offer.dsn) {
                line.push_str(&format!(" NOTIFY={}", to_xtext(when.to_ascii_uppercase().as_bytes())));
            }
            let reply = client.command(line.as_bytes()).await?;
            client.want(reply, &format!("RCPT {to}"))?;
        }
        let reply = client.command(b"DATA").await?;
        if reply.code != 354 {
            return Err(ClientError::Refused { to: client.to.clone(), what: "DATA".into(), reply }.into());
        }
        for piece in stuffed(&self.message.text).chunks(64 << 10) {
            client.write(piece).await?;
        }
        let reply = client.last_word().await.map_err(|e| Failed { maybe: true, ..Failed::from(e) })?;
        let reply = client.want(reply, "the message")?;
        let said = String::from_utf8_lossy(&reply.in_one_line()).into_owned();
        let bye = client.command(b"QUIT");
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), bye).await;
        Ok((tracks, said))
    }

    async fn connected(&self) -> Result<Client, Failed> {
        let (host, at) = self.settings.server().map_err(fails(CONFIG))?;
        let tls = connector(true, self.settings.ca.as_deref()).map_err(|e| NotSent(CONFIG, e.into()))?;
        let mut client = match self.settings.tls {
            Tls::Implicit => Client::connect(&at, Some((&tls, &host))).await?,
            _ => Client::connect(&at, None).await?,
        };
        client.hello(self.name).await?;
        if self.settings.tls == Tls::Starttls {
            if !client.offer.starttls {
                return Err(ClientError::Cannot("offers no STARTTLS (--tls off would send in the clear)", at).into());
            }
            client = client.starttls(&tls, &host, self.name).await?;
        }
        if let Some((user, password)) = self.settings.login().map_err(fails(CONFIG))? {
            if !client.secure {
                return Err(NotSent(CONFIG, anyhow!("a password is not sent without TLS")).into());
            }
            client.auth(&user, &password).await?;
        }
        Ok(client)
    }

    fn mail(&self, client: &Client, sent: &Sent, tracks: bool) -> String {
        let mut line = format!("MAIL FROM:<{}>", sent.from);
        if tracks {
            line.push_str(&format!(" MTRK={}", self.secret.certifier()));
            if let Some(seconds) = self.settings.track_seconds {
                line.push_str(&format!(":{seconds}"));
            }
        }
        if tracks || client.offer.dsn {
            line.push_str(&format!(" ENVID={}", sent.envelope_id));
        }
        if let Some(what) = self.a.ret.as_deref().filter(|_| client.offer.dsn) {
            line.push_str(&format!(" RET={}", to_xtext(what.to_ascii_uppercase().as_bytes())));
        }
        if client.offer.size {
            line.push_str(&format!(" SIZE={}", self.message.text.len()));
        }
        if client.offer.eight_bit && !self.message.text.is_ascii() {
            line.push_str(" BODY=8BITMIME");
        }
        if client.offer.utf8 && !(sent.from.is_ascii() && sent.to.iter().all(|t| t.is_ascii())) {
            line.push_str(" SMTPUTF8");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::command::{Mark, envelope};

    #[test]
    fn rfc3885_3_2_an_envelope_id_fits_whatever_the_hosts_name() {
        let local = "0".repeat(32);
        for host in ["h.test".to_string(), format!("{}.test", "long".repeat(60)), "odd+host=.test".into()] {
            let id = envelope_id(&local, &host);
            let line = format!("MAIL FROM:<> MTRK={} ENVID={id}", Secret::new(vec![7; SECRET_BYTES]).certifier());
            assert_eq!(Mark::of(&envelope(line.as_bytes()).unwrap().params).unwrap().unwrap().envelope_id, id);
        }
    }
}
