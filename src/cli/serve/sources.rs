//! What a daemon follows: log files, the journal, syslog messages, mailboxes, as the config and the command line say.

use super::{Arguments, CONFIG};
use crate::config::{Config, Mailbox, Syslog, Then, Transport, Watch};
use crate::ingest::live::usual_places;
use crate::ingest::mail::Followed;
use crate::ingest::positions::Positions;
use crate::mtqp::config::Certificate;
use crate::mtqp::tls::Certificates;
use crate::source::journal::{JournalOptions, journal};
use crate::source::live::{Live, Wake, wall_clock};
use crate::source::syslog::{SyslogOptions, syslog};
use crate::source::tail::{TailOptions, Tailer};
use crate::store::Store;
use anyhow::bail;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All that is followed.
pub(super) struct Sources {
    pub(super) live: Vec<Box<dyn Live>>,
    pub(super) mailboxes: Vec<Followed>,
    /// Host of lines that name none, by file.
    pub(super) hosts: Vec<(glob::Pattern, String)>,
    /// For people: what is followed.
    pub(super) names: Vec<String>,
    /// Addresses that are listened on, by what for.
    pub(super) listening: Vec<(String, String)>,
}

/// What is to be followed, before anything is opened.
struct Plan {
    watch: Vec<Watch>,
    dsn: Vec<Mailbox>,
    syslog: Vec<Syslog>,
    journal: bool,
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

impl Plan {
    fn new(a: &Arguments, config: &Config) -> anyhow::Result<Plan> {
        let mut watch = config.watch.clone();
        watch.extend(a.watch.iter().map(|p| Watch { path: absolute(p), host: a.host.clone() }));
        let mut dsn = config.dsn.clone();
        dsn.extend(a.dsn.iter().map(|p| Mailbox { path: absolute(p), then: Then::Keep, move_to: None }));
        let syslog: Vec<Syslog> = config.syslog.iter().chain(&a.syslog).cloned().collect();
        let mut journal = a.journal || config.journal.follow == Some(true);
        if watch.is_empty() && dsn.is_empty() && syslog.is_empty() && !journal {
            watch = usual_places().into_iter().map(|path| Watch { path, host: None }).collect();
            journal = watch.is_empty() && config.journal.follow.is_none() && Path::new("/run/systemd/journal").is_dir();
            let gateway = a.smtp_out.is_some() || config.smtp.out.is_some() || !a.smtp.is_empty() || !config.smtp.listen.is_empty();
            if watch.is_empty() && !journal && !gateway {
                bail!("nothing to watch: none of the usual mail logs is here; name one with --watch, or in {CONFIG}");
            }
        }
        Ok(Plan { watch, dsn, syslog, journal })
    }
}

/// Opens everything; files that are not there yet are waited for.
pub(super) fn open(
    a: &Arguments,
    config: &Config,
    store: &Store,
    host: &str,
    wake: &Wake,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<Sources> {
    let plan = Plan::new(a, config)?;
    let positions = Positions::of(store)?;
    let mut live: Vec<Box<dyn Live>> = Vec::new();
    let mut names: Vec<String> = plan.watch.iter().map(|w| w.path.display().to_string()).collect();
    let mut listening = Vec::new();
    if !plan.watch.is_empty() {
        let finished = store.sources()?.iter().filter_map(|s| serde_json::from_str(s).ok()).collect();
        let paths = plan.watch.iter().map(|w| w.path.clone()).collect();
        let options = TailOptions { wake: Some(Arc::clone(wake)), ..TailOptions::default() };
        live.push(Box::new(Tailer::new(paths, positions.tails, finished, options)));
    }
    if plan.journal {
        let (directory, cursor) = (config.journal.directory.clone(), positions.cursors.get("journal").cloned());
        let options = JournalOptions { directory, cursor, host: host.into(), ..JournalOptions::default() };
        live.push(Box::new(journal(options, Arc::clone(wake))?));
        names.push("the journal".into());
    }
    if !plan.syslog.is_empty() {
        let (feed, bound) = runtime.block_on(syslog(syslog_options(&plan.syslog)?, Arc::clone(wake)))?;
        live.push(Box::new(feed));
        for (what, addresses) in [("syslog-udp", bound.udp), ("syslog-tcp", bound.tcp), ("syslog-tls", bound.tls)] {
            listening.extend(addresses.into_iter().map(|address: SocketAddr| (what.to_string(), address.to_string())));
        }
    }
    names.extend(plan.dsn.iter().map(|m| m.path.display().to_string()));
    let pattern = |w: &Watch| Some((glob::Pattern::new(&w.path.to_string_lossy()).ok()?, w.host.clone()?));
    Ok(Sources {
        live,
        mailboxes: plan.dsn.iter().map(Followed::new).collect(),
        hosts: plan.watch.iter().filter_map(pattern).collect(),
        names,
        listening,
    })
}

fn syslog_options(all: &[Syslog]) -> anyhow::Result<SyslogOptions> {
    let mut options = SyslogOptions::new(wall_clock());
    let mut certificates = Vec::new();
    for s in all {
        match s.transport {
            Transport::Udp => options.udp.push(s.listen),
            Transport::Tcp => options.tcp.push(s.listen),
            Transport::Tls => options.tls.push(s.listen),
        }
        if let (Some(chain), Some(key)) = (s.certificate.clone(), s.key.clone()) {
            certificates.push(Certificate { chain, key });
        }
    }
    if !certificates.is_empty() {
        options.tls_config = Some(Certificates::load(&certificates)?.for_any());
    }
    Ok(options)
}
