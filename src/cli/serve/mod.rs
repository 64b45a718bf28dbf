//! `msgtrk serve`: follows logs, keeps the index fresh, answers other processes, until it is told to end.

mod listen;
mod sources;

use super::backfill::this_host;
use super::text::clean;
use super::{Context, Global};
use crate::config::{Config, Syslog};
use crate::daemon::control::{Server, Service};
use crate::daemon::figures::{Figures, SourceHealth};
use crate::daemon::querylog::QueryLog;
use crate::daemon::systemd;
use crate::daemon::writer::{Job, Pace, Upkeep, WriterThread};
use crate::ingest::fold::LeftOut;
use crate::ingest::live::{self, Bell, Listener, LiveLoop, LiveOptions, LiveWork};
use crate::ingest::open::{OpenRecords, View};
use crate::ingest::parse_block::Counts;
use crate::ingest::wall::WallClock;
use crate::mtqp::server::Handle;
use crate::source::live::{Activity, Health, Problem};
use crate::store::Store;
use anyhow::Context as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The config file that `serve` reads when none is named.
const CONFIG: &str = "/etc/msgtrk/msgtrk.toml";

#[derive(clap::Args)]
#[command(after_help = "Without --watch and without a config file the usual places of mail logs are watched. Each watched file is read \
from its beginning, its rotated siblings first; after a restart from where it was left. SIGHUP reads the config again, SIGTERM commits and ends.")]
pub struct Arguments {
    /// Log files, folders or globs to follow, besides those of the config
    #[arg(long, value_name = "PATH", num_args = 1..)]
    watch: Vec<PathBuf>,
    /// Maildirs or mbox files that delivery status notifications come to, besides those of the config
    #[arg(long, value_name = "MAILBOX", num_args = 1..)]
    dsn: Vec<PathBuf>,
    /// Host whose lines these are, where they name none [default: this machine]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Follow the systemd journal
    #[arg(long)]
    journal: bool,
    /// Take syslog messages, besides where the config says: udp:ADDR:PORT or tcp:ADDR:PORT
    #[arg(long, value_name = "udp:ADDR:PORT")]
    syslog: Vec<Syslog>,
    /// Answer tracking queries (RFC 3887), in place of the config's addresses; the protocol's port is 1038
    #[arg(long, value_name = "ADDR:PORT")]
    mtqp: Vec<SocketAddr>,
    /// The same with TLS from the first byte; needs certificates in the config
    #[arg(long, value_name = "ADDR:PORT")]
    mtqps: Vec<SocketAddr>,
    /// Serve figures for Prometheus
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// Stand before an MTA: take SMTP at one address, hand it to the MTA at the other, note what is marked for tracking
    #[arg(long, value_name = "LISTEN=BACKEND")]
    smtp: Vec<crate::smtp::config::Listen>,
    /// Stand behind an MTA as its next hop, hand on what is marked for tracking
    #[arg(long, value_name = "ADDR:PORT")]
    smtp_out: Option<SocketAddr>,
}

/// What lives as long as the process; a reload makes everything else anew.
struct Running {
    figures: Arc<Figures>,
    open: Arc<OpenRecords>,
    jobs: SyncSender<Job>,
    bell: Arc<Bell>,
    stop: Arc<AtomicBool>,
    /// Leave the live loop: to end, or to begin anew.
    leave: Arc<AtomicBool>,
    upkeep: Arc<Upkeep>,
    clock: Arc<WallClock>,
    /// The query log that the config in force asks for.
    queries: Arc<RwLock<Option<QueryLog>>>,
}

pub fn run(global: &Global, a: &Arguments) -> anyhow::Result<ExitCode> {
    let mut global = global.clone();
    if global.config.is_none() && Path::new(CONFIG).is_file() {
        global.config = Some(CONFIG.into());
    }
    let (cx, config) = Context::with_config(&global)?;
    let store = Arc::new(Store::open_or_create(&cx.index)?);
    let open = Arc::new(OpenRecords::default());
    let figures = Arc::new(Figures::default());
    let stop = Arc::new(AtomicBool::new(false));
    let upkeep = Arc::new(Upkeep::default());
    let clock = WallClock::system();
    let writer = WriterThread {
        store: Arc::clone(&store),
        open: Arc::clone(&open),
        figures: Arc::clone(&figures),
        stop: Arc::clone(&stop),
        upkeep: Arc::clone(&upkeep),
        clock: Arc::clone(&clock),
        pace: Pace::default(),
    };
    let (jobs, queue) = sync_channel(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    std::thread::scope(|scope| {
        // Taken before anything else is begun: a second daemon ends here.
        let thread_writer = &writer;
        let committer = writer.committer()?;
        let thread = std::thread::Builder::new().name("writer".into()).spawn_scoped(scope, move || thread_writer.run(committer, &queue))?;
        let running = Running {
            figures: Arc::clone(&figures),
            open: Arc::clone(&open),
            jobs,
            bell: Arc::default(),
            stop: Arc::clone(&stop),
            leave: Arc::default(),
            upkeep,
            clock,
            queries: Arc::default(),
        };
        let done = running.serve(&global, a, cx, config, &store, &runtime);
        stop.store(true, Relaxed);
        let left = Instant::now() + Duration::from_secs(1);
        // Control clients hold senders, too: without a word the thread would wait for them.
        let _ = running.jobs.try_send(Job::End);
        drop(running);
        while !thread.is_finished() && Instant::now() < left {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = std::fs::remove_file(store.dir().join("control.sock"));
        match done {
            Ok(()) if thread.is_finished() => Ok(ExitCode::SUCCESS),
            Ok(()) => std::process::exit(0),
            Err(e) => {
                eprintln!("msgtrk: {}", super::in_words(&e));
                std::process::exit(2)
            }
        }
    })
}

impl Running {
    fn serve(
        &self,
        global: &Global,
        a: &Arguments,
        cx: Context,
        config: Config,
        store: &Arc<Store>,
        runtime: &tokio::runtime::Runtime,
    ) -> anyhow::Result<()> {
        self.apply(&cx, &config)?;
        let view = View::new(Arc::clone(store), Arc::clone(&self.open));
        self.control(store.dir(), view.clone())?;
        self.signals(runtime)?;
        self.figures.started();
        let servers = listen::begin(self, a, &cx, &config, &view, runtime)?;
        let mut current = (cx, config);
        let mut announce = true;
        loop {
            self.leave.store(false, Relaxed);
            let (cx, config) = &current;
            self.follow(a, cx, config, store, runtime, &servers, announce)?;
            announce = false;
            if self.stop.load(Relaxed) {
                let _ = systemd::notify("STOPPING=1");
                if let Some(mtqp) = servers.mtqp {
                    runtime.block_on(mtqp.stop(Duration::from_millis(500)));
                }
                return Ok(());
            }
            if let Some(Err(e)) = servers.mtqp.as_ref().map(Handle::reload_certificates) {
                tracing::error!("the certificates before stay in use: {e}");
            }
            match Context::with_config(global) {
                Ok(fresh) => {
                    if let Err(e) = self.apply(&fresh.0, &fresh.1) {
                        tracing::error!("{}", super::in_words(&e));
                    }
                    current = fresh;
                }
                Err(e) => tracing::error!("the config cannot be used, the one before stays in force: {}", super::in_words(&e)),
            }
        }
    }

    /// What a config says of retention and of the query log.
    fn apply(&self, cx: &Context, config: &Config) -> anyhow::Result<()> {
        self.upkeep.keep(&config.retention);
        let log = QueryLog::of(&config.query_log, &cx.index)?;
        *self.queries.write().unwrap_or_else(PoisonError::into_inner) = log;
        Ok(())
    }

    /// Follows what a config says until it is time to leave.
    #[allow(clippy::too_many_arguments)]
    fn follow(
        &self,
        a: &Arguments,
        cx: &Context,
        config: &Config,
        store: &Store,
        runtime: &tokio::runtime::Runtime,
        servers: &listen::Servers,
        announce: bool,
    ) -> anyhow::Result<()> {
        let bell = Arc::clone(&self.bell);
        let wake: crate::source::live::Wake = Arc::new(move || bell.ring());
        let host = a.host.clone().unwrap_or_else(this_host);
        let followed = sources::open(a, config, store, &host, &wake, runtime)?;
        let options = LiveOptions {
            site: Arc::clone(&cx.site),
            parsers: cx.load_parsers()?,
            hosts: followed.hosts,
            host,
            retention: config.retention.clone(),
            most: live::MOST,
            clock: Arc::clone(&self.clock),
        };
        let mut following = LiveLoop::new(store, followed.live, followed.mailboxes, options, &self.open, self)?;
        let listening: Vec<_> = servers.addresses.iter().chain(&followed.listening).cloned().collect();
        if announce {
            use std::io::Write;
            let mut out = std::io::stdout();
            let addresses: String = listening.iter().map(|(what, address)| format!(" {what}={address}")).collect();
            writeln!(out, "ready{addresses}").and_then(|()| out.flush())?;
        }
        let names: Vec<String> = followed.names.iter().map(|n| clean(n)).collect();
        tracing::info!("index {}; watching {}", store.dir().display(), names.join(", "));
        self.figures.listening(listening);
        let _ = systemd::notify("READY=1");
        following.run(&self.leave, &self.bell);
        Ok(())
    }

    fn control(&self, dir: &Path, view: View) -> anyhow::Result<()> {
        let server = Server::bind(dir).with_context(|| format!("control socket in {}", dir.display()))?;
        let (told, asked) = (Arc::clone(&self.figures), Arc::clone(&self.figures));
        let service = Service {
            view,
            jobs: self.jobs.clone(),
            status: Box::new(move || told.status()),
            asked: Box::new(move || asked.asked()),
            queries: Arc::clone(&self.queries),
        };
        std::thread::Builder::new().name("control".into()).spawn(move || server.serve(Arc::new(service)))?;
        Ok(())
    }

    fn signals(&self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let _inside = runtime.enter();
        let (mut term, mut int, mut hup) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
        let (stop, leave, bell) = (Arc::clone(&self.stop), Arc::clone(&self.leave), Arc::clone(&self.bell));
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => stop.store(true, Relaxed),
                    _ = int.recv() => stop.store(true, Relaxed),
                    _ = hup.recv() => {}
                }
                leave.store(true, Relaxed);
                bell.ring();
            }
        });
        Ok(())
    }
}

impl Listener for Running {
    fn hand_in(&self, work: LiveWork) {
        // At most one is out at a time, so there is room; without a writer thread the process is ending.
        let _ = self.jobs.send(Job::Live(work));
    }

    fn read(&self, counts: &Counts, left_out: &LeftOut) {
        self.figures.read(counts, left_out);
    }

    fn health(&self, health: Vec<(Health, Option<f64>)>) {
        let one = |(h, late): (Health, Option<f64>)| SourceHealth {
            name: h.stream.display().to_string(),
            bytes_behind: Some(h.behind),
            seconds_behind: late.filter(|_| h.activity == Activity::CatchingUp),
            lines: h.lines,
            problem: h.error,
        };
        self.figures.set_sources(health.into_iter().map(one).collect());
    }

    fn problem(&self, p: &Problem) {
        match p.over {
            true => tracing::info!("over: {}", clean(&p.text)),
            false => tracing::warn!("{}", clean(&p.text)),
        }
    }

    fn alive(&self) {
        if systemd::watchdog().is_some() {
            let _ = systemd::notify("WATCHDOG=1");
        }
    }
}
