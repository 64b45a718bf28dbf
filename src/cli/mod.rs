//! The command line: one file a command. Arguments are read here, made whole in `Context`, then a command runs.

mod backfill;
mod config;
mod demo;
mod export;
mod forget;
mod grant;
mod json;
mod parsers;
mod progress;
mod reported;
mod search;
mod sent;
mod serve;
mod shell;
mod skeleton;
mod stats;
mod status;
mod stuck;
mod submit;
pub mod text;
mod times;
mod trace;
mod track;
mod verify;

use crate::config::{self as config_file, Config, Retention, Site};
use crate::daemon::control::{self, Daemon};
use crate::daemon::querylog::{Asker, QueryLog};
use crate::ingest::commit::{Committer, Sink};
use crate::parse::Parsers;
use crate::resolve::clock::Zone;
use crate::store::{Store, StoreError};
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// What happened to this message? Indexes mail logs and answers.
#[derive(Parser)]
#[command(name = "msgtrk", version, max_term_width = 110, after_help = "Exit status: 0 found or done, 1 nothing found, 2 error.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Args, Clone)]
struct Global {
    /// Folder of the index
    #[arg(long, global = true, env = "MSGTRK_INDEX", hide_env_values = true, value_name = "DIR", help_heading = "For all commands")]
    index: Option<PathBuf>,
    /// Config file: names and zones of hosts, parser files, name servers
    #[arg(long, global = true, value_name = "FILE", help_heading = "For all commands")]
    config: Option<PathBuf>,
    /// Folder of parser files that are read after the built-in ones
    #[arg(long = "parsers", global = true, value_name = "DIR", help_heading = "For all commands")]
    parser_files: Option<PathBuf>,
    /// Zone of log stamps that name none, and of times shown; HOST=ZONE for one host's logs [default: this machine's]
    #[arg(long, global = true, value_name = "[HOST=]ZONE", help_heading = "For all commands")]
    timezone: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Read logs of the past into the index: files, folders, compressed or not
    Backfill(backfill::Arguments),
    /// Follow logs as they grow, and answer, until told to end
    Serve(serve::Arguments),
    /// List the records that meet filters
    Search(Box<search::Arguments>),
    /// Show one message's way over all hosts, and how it ended for each recipient
    Trace(trace::Arguments),
    /// List what is still queued, by domain and reason, oldest first
    Stuck(stuck::Arguments),
    /// Say what the index holds, and which lines were not understood
    Stats(stats::Arguments),
    /// Say how the running daemon is
    Status(status::Arguments),
    /// Let somebody track a message over MTQP: prints the URL that opens it
    Grant(grant::Arguments),
    /// Take back what `grant` gave
    Revoke(grant::RevokeArguments),
    /// Ask a tracking server (MTQP, RFC 3887) what became of a message
    Track(Box<track::Arguments>),
    /// Send a message from standard input as sendmail does, marked so that it can be tracked
    Submit(Box<submit::Arguments>),
    /// List what was sent with submit, and ask what became of it
    Sent(sent::Arguments),
    /// Take one person's address out of all that is stored
    Forget(forget::Arguments),
    /// Write the whole index as JSON lines, for backup or moving house
    Export(export::Export),
    /// Read what `export` wrote
    Import(export::Import),
    /// Check, list and try parser files
    #[command(subcommand)]
    Parsers(parsers::Arguments),
    /// Check the index: checksums, every record readable
    Verify(verify::Arguments),
    /// Check a config file
    #[command(subcommand)]
    Config(config::Arguments),
    /// Backfill the sample logs into a folder of its own and show a search and a trace
    Demo(demo::Arguments),
    /// Write a shell's completions to standard output
    Completions(shell::Completions),
    /// Write the manual page to standard output
    Man,
}

/// What all commands work with.
struct Context {
    index: PathBuf,
    site: Arc<Site>,
    /// Zone that times are shown in.
    zone: Zone,
    parsers: Option<PathBuf>,
    retention: Retention,
    query_log: config_file::QueryLog,
    /// Name servers to ask; none are the system's.
    name_servers: Vec<std::net::SocketAddr>,
    /// Microseconds since 1970.
    now: i64,
}

/// Reads the arguments and runs the command.
///
/// # Errors
/// Whatever kept a command from doing what was asked; the message says what, where and what to do.
pub fn run() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    // What an index holds is personal: no file of it is for others, whoever runs this.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let level = if matches!(cli.command, Command::Serve(_)) { "msgtrk=info,warn" } else { "error" };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("MSGTRK_LOG").unwrap_or_else(|_| level.into()))
        .init();
    match &cli.command {
        // What needs no config, a broken one least of all.
        Command::Config(a) => return config::run(a),
        Command::Completions(a) => return shell::completions(a),
        Command::Man => return shell::man(),
        Command::Serve(a) => return serve::run(&cli.global, a),
        _ => {}
    }
    let cx = Context::new(&cli.global)?;
    match cli.command {
        Command::Backfill(a) => backfill::run(&cx, &a),
        Command::Search(a) => search::run(&cx, &a),
        Command::Trace(a) => trace::run(&cx, &a),
        Command::Grant(a) => grant::run(&cx, &a),
        Command::Revoke(a) => grant::revoke(&cx, &a),
        Command::Track(a) => track::run(&cx, &a),
        Command::Stuck(a) => stuck::run(&cx, &a),
        Command::Stats(a) => stats::run(&cx, &a),
        Command::Parsers(a) => parsers::run(&cx, &a),
        Command::Verify(a) => verify::run(&cx, &a),
        Command::Demo(a) => demo::run(&cx, &a),
        Command::Status(a) => status::run(&cx, &a),
        Command::Forget(a) => forget::run(&cx, &a),
        Command::Export(a) => export::export(&cx, &a),
        Command::Import(a) => export::import(&cx, &a),
        Command::Submit(a) => submit::run(&cx, &a),
        Command::Sent(a) => sent::run(&cx, &a),
        Command::Config(_) | Command::Completions(_) | Command::Man | Command::Serve(_) => Ok(ExitCode::SUCCESS),
    }
}

/// An error as a person is told it, with what to do where the error itself does not say.
pub fn in_words(e: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in e.chain().map(ToString::to_string) {
        // Many an error repeats its cause in its own words.
        if !parts.iter().any(|p| p.contains(&cause)) {
            parts.push(cause);
        }
    }
    let mut text = parts.join(": ");
    if e.downcast_ref::<StoreError>().is_some_and(StoreError::is_storage_full) {
        text.push_str("; what was committed before is kept: make room, then run the same command again");
    }
    text
}

/// Whether an error only says that nobody reads our output any more.
pub fn is_broken_pipe(e: &anyhow::Error) -> bool {
    let broken = |kind| kind == std::io::ErrorKind::BrokenPipe;
    e.chain().any(|c| {
        let csv = c.downcast_ref::<csv::Error>().is_some_and(|e| matches!(e.kind(), csv::ErrorKind::Io(e) if broken(e.kind())));
        csv || c.downcast_ref::<std::io::Error>().is_some_and(|e| broken(e.kind()))
    })
}

impl Context {
    fn new(global: &Global) -> anyhow::Result<Self> {
        Ok(Self::with_config(global)?.0)
    }

    fn with_config(global: &Global) -> anyhow::Result<(Self, Config)> {
        let own = iana_time_zone();
        let mut config = match &global.config {
            Some(path) => Config::read(path, own)?,
            None => Config { site: Site::in_zone(own), ..Config::default() },
        };
        for word in &global.timezone {
            match word.split_once('=') {
                Some((host, zone)) => config.site.set_zone(host, zone.parse().map_err(anyhow::Error::msg).context("--timezone")?),
                None => config.site.zone = word.parse().map_err(anyhow::Error::msg).context("--timezone")?,
            }
        }
        let index = global.index.clone().or_else(|| config.index.clone()).unwrap_or_else(default_index);
        let parsers = global.parser_files.clone().or_else(|| config.parsers.clone());
        as_open_as(&index);
        let (zone, site) = (config.site.zone, Arc::new(config.site.clone()));
        let (retention, query_log) = (config.retention.clone(), config.query_log.clone());
        let (name_servers, now) = (config.name_servers.clone(), chrono::Utc::now().timestamp_micros());
        Ok((Context { index, zone, site, parsers, retention, query_log, name_servers, now }, config))
    }

    fn open(&self) -> Result<Store, StoreError> {
        Store::open(&self.index)
    }

    /// Where finished work goes: the running daemon, else the index itself. Says how many bytes of events to gather for one commit.
    fn sink<'s>(&self, store: &'s Store) -> Result<(Box<dyn Sink + 's>, Option<usize>), StoreError> {
        match Daemon::connect(&self.index)? {
            Some(daemon) => Ok((Box::new(daemon), Some(control::BUDGET))),
            None => Ok((Box::new(Committer::new(store)?), None)),
        }
    }

    /// Writes a question into the query log, where there is to be one; to be called before it is answered.
    fn note_query(&self, what: &str, asked: &[(&str, String)]) -> Result<(), StoreError> {
        let Some(log) = QueryLog::of(&self.query_log, &self.index)? else { return Ok(()) };
        log.note(self.now, Asker::User(rustix::process::getuid().as_raw()), "cli", what, asked)
    }

    fn load_parsers(&self) -> anyhow::Result<Arc<Parsers>> {
        Ok(Parsers::load(self.parsers.as_deref())?)
    }
}

/// New files are for whom the folder of an index is: for its owner only, unless somebody opened it to a group since it was made.
fn as_open_as(index: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let made = index.join("meta.json").exists();
    if let Some(folder) = std::fs::metadata(index).ok().filter(|_| made) {
        let mask = 0o077 & !folder.permissions().mode();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
    }
}

/// `/var/lib/msgtrk` for root, else `~/.local/share/msgtrk`.
fn default_index() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    match (data, home) {
        (_, Some(home)) if home == std::path::Path::new("/root") => PathBuf::from("/var/lib/msgtrk"),
        (Some(data), _) => data.join("msgtrk"),
        (None, Some(home)) => home.join(".local/share/msgtrk"),
        (None, None) => PathBuf::from("/var/lib/msgtrk"),
    }
}

/// This machine's zone; UTC where it cannot be told.
fn iana_time_zone() -> Zone {
    let from_env = std::env::var("TZ").ok().and_then(|z| z.trim_start_matches(':').parse().ok());
    let link = || {
        let target = std::fs::read_link("/etc/localtime").ok()?;
        let text = target.to_str()?;
        text.split_once("zoneinfo/")?.1.parse().ok()
    };
    from_env.or_else(link).unwrap_or(Zone::Fixed(0))
}
