//! `msgtrk serve`: follows logs, keeps the index fresh, answers other processes, until it is told to end.

use super::backfill::this_host;
use super::text::clean;
use super::{Context, Global};
use crate::config::{Config, Watch};
use crate::daemon::control::{Server, Service};
use crate::daemon::figures::{Figures, SourceHealth};
use crate::daemon::writer::{Job, WriterThread};
use crate::daemon::{metrics, systemd};
use crate::ingest::live::{Bell, Listener, LiveLoop, LiveOptions, LiveWork, usual_places};
use crate::ingest::open::{OpenRecords, View};
use crate::ingest::parse_block::Counts;
use crate::ingest::positions::known_files;
use crate::smtp::binding::Binder;
use crate::smtp::start::{Setup, start};
use crate::source::live::{Activity, Health, Live, Problem};
use crate::source::tail::{TailOptions, Tailer};
use crate::store::Store;
use anyhow::{Context as _, bail};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
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
    let writer =
        WriterThread { store: Arc::clone(&store), open: Arc::clone(&open), figures: Arc::clone(&figures), stop: Arc::clone(&stop) };
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
        };
        let done = running.serve(&global, a, cx, config, &store, &runtime);
        stop.store(true, Relaxed);
        let left = Instant::now() + Duration::from_secs(1);
        drop(running);
        // Control clients hold senders: the process ends without waiting for them.
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
        let view = View::new(Arc::clone(store), Arc::clone(&self.open));
        self.control(store.dir(), view.clone())?;
        self.signals(runtime)?;
        let mut ready = String::from("ready");
        let mut listening = Vec::new();
        if let Some(address) = a.metrics.or(config.metrics.as_ref().map(|m| m.listen)) {
            let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).with_context(|| format!("--metrics {address}"))?;
            let address = listener.local_addr()?;
            ready.push_str(&format!(" metrics={address}"));
            listening.push(("metrics".to_string(), address.to_string()));
            runtime.spawn(metrics::serve(listener, Arc::clone(&self.figures)));
        }
        for (name, address) in self.gateways(a, &cx, &config, view, runtime)? {
            ready.push_str(&format!(" {name}={address}"));
            listening.push((name, address.to_string()));
        }
        self.figures.started(listening);
        let mut current = (cx, config);
        let mut announce = Some(ready);
        loop {
            self.leave.store(false, Relaxed);
            let (cx, config) = &current;
            self.follow(a, cx, config, store, &mut announce)?;
            if self.stop.load(Relaxed) {
                let _ = systemd::notify("STOPPING=1");
                return Ok(());
            }
            match Context::with_config(global) {
                Ok(fresh) => current = fresh,
                Err(e) => tracing::error!("the config cannot be used, the one before stays in force: {}", super::in_words(&e)),
            }
        }
    }

    /// Follows what a config says until it is time to leave.
    fn follow(&self, a: &Arguments, cx: &Context, config: &Config, store: &Store, announce: &mut Option<String>) -> anyhow::Result<()> {
        let watch = self.watched(a, config)?;
        let known = known_files(store)?;
        let bell = Arc::clone(&self.bell);
        let wake: crate::source::live::Wake = Arc::new(move || bell.ring());
        let paths = watch.iter().map(|w| w.path.clone()).collect();
        let tailer = Tailer::new(paths, known, TailOptions { wake: Some(wake), ..TailOptions::default() });
        let sources: Vec<Box<dyn Live>> = vec![Box::new(tailer)];
        let hosts = watch.iter().filter_map(|w| Some((glob::Pattern::new(&w.path.to_string_lossy()).ok()?, w.host.clone()?))).collect();
        let options =
            LiveOptions { site: Arc::clone(&cx.site), parsers: cx.load_parsers()?, hosts, host: a.host.clone().unwrap_or_else(this_host) };
        let mut live = LiveLoop::new(store, sources, options, &self.open, self)?;
        for w in &watch {
            tracing::info!("watching {}", w.path.display());
        }
        if let Some(line) = announce.take() {
            use std::io::Write;
            let mut out = std::io::stdout();
            writeln!(out, "{line}").and_then(|()| out.flush())?;
            let names: Vec<String> = watch.iter().map(|w| clean(&w.path.display().to_string())).collect();
            eprintln!("msgtrk: watching {}; index {}", names.join(", "), clean(&store.dir().display().to_string()));
        }
        let _ = systemd::notify("READY=1");
        live.run(&self.leave, &self.bell);
        Ok(())
    }

    /// Opens the SMTP gateways.
    fn gateways(
        &self,
        a: &Arguments,
        cx: &Context,
        config: &Config,
        view: View,
        runtime: &tokio::runtime::Runtime,
    ) -> anyhow::Result<Vec<(String, SocketAddr)>> {
        let (open, bell) = (Arc::clone(&self.open), Arc::clone(&self.bell));
        let binder = Arc::new(Binder { open, bell, parsers: cx.load_parsers()?, config: config.smtp.clone() });
        let (this_host, host_name) = (a.host.clone().unwrap_or_else(this_host), |name: &str| cx.site.host_name(name));
        let setup = Setup { binder, listen: &a.smtp, out: a.smtp_out, this_host: &this_host, host_name: &host_name, view };
        Ok(start(runtime, &setup)?.listening)
    }

    fn watched(&self, a: &Arguments, config: &Config) -> anyhow::Result<Vec<Watch>> {
        let mut watch = config.watch.clone();
        watch.extend(a.watch.iter().map(|p| Watch { path: std::path::absolute(p).unwrap_or_else(|_| p.clone()), host: a.host.clone() }));
        if watch.is_empty() {
            watch = usual_places().into_iter().map(|path| Watch { path, host: None }).collect();
        }
        if watch.is_empty() && a.dsn.is_empty() && config.dsn.is_empty() {
            bail!("nothing to watch: none of the usual mail logs is here; name one with --watch, or in {CONFIG}");
        }
        Ok(watch)
    }

    fn control(&self, dir: &Path, view: View) -> anyhow::Result<()> {
        let server = Server::bind(dir).with_context(|| format!("control socket in {}", dir.display()))?;
        let (told, asked) = (Arc::clone(&self.figures), Arc::clone(&self.figures));
        let service =
            Service { view, jobs: self.jobs.clone(), status: Box::new(move || told.status()), asked: Box::new(move || asked.asked()) };
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

    fn read(&self, counts: &Counts) {
        self.figures.read(counts);
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
