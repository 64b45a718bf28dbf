//! What a daemon answers on: figures for Prometheus, MTQP.

use super::{Arguments, Running};
use crate::cli::Context;
use crate::cli::backfill::this_host;
use crate::config::Config;
use crate::daemon::metrics;
use crate::daemon::tracker::ViewTracker;
use crate::ingest::open::View;
use crate::mtqp::config::ServerConfig;
use crate::mtqp::server::{Handle, spawn};
use crate::smtp::binding::Binder;
use crate::smtp::start::{Setup, Started, start};
use anyhow::Context as _;
use std::net::SocketAddr;
use std::sync::Arc;

/// The servers of a process, and where they really listen.
pub(super) struct Servers {
    pub(super) mtqp: Option<Handle>,
    pub(super) addresses: Vec<(String, String)>,
}

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// Begins to listen. A reload reads certificates again; other changes of addresses want a restart.
pub(super) fn begin(
    running: &Running,
    a: &Arguments,
    cx: &Context,
    config: &Config,
    view: &View,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<Servers> {
    let mut servers = Servers { mtqp: None, addresses: Vec::new() };
    let mut note = |what: &str, addresses: &[SocketAddr]| {
        servers.addresses.extend(addresses.iter().map(|address| (what.to_string(), address.to_string())));
    };
    if let Some(mtqp) = mtqp_config(a, config) {
        let tracker = ViewTracker { view: view.clone(), figures: Arc::clone(&running.figures), queries: Arc::clone(&running.queries) };
        let handle = runtime.block_on(spawn(mtqp, Arc::new(tracker), now))?;
        note("mtqp", handle.plain_addresses());
        note("mtqps", handle.tls_addresses());
        servers.mtqp = Some(handle);
    }
    let gateways = gateways(running, a, cx, config, view, runtime)?;
    servers.addresses.extend(gateways.listening.iter().map(|(what, address)| (what.clone(), address.to_string())));
    if let Some(address) = a.metrics.or(config.metrics.as_ref().map(|m| m.listen)) {
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).with_context(|| format!("--metrics {address}"))?;
        servers.addresses.push(("metrics".into(), listener.local_addr()?.to_string()));
        runtime.spawn(metrics::serve(listener, Arc::clone(&running.figures), gateways.counters));
    }
    Ok(servers)
}

/// The SMTP gateways before and behind an MTA.
fn gateways(
    running: &Running,
    a: &Arguments,
    cx: &Context,
    config: &Config,
    view: &View,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<Started> {
    let (open, bell) = (Arc::clone(&running.open), Arc::clone(&running.bell));
    let binder = Arc::new(Binder { open, bell, parsers: cx.load_parsers()?, config: config.smtp.clone() });
    let (this_host, host_name) = (a.host.clone().unwrap_or_else(this_host), |name: &str| cx.site.host_name(name));
    let setup = Setup { binder, listen: &a.smtp, out: a.smtp_out, this_host: &this_host, host_name: &host_name, view: view.clone() };
    Ok(start(runtime, &setup)?)
}

/// `[mtqp]`, with what the command line and the rest of the config say.
fn mtqp_config(a: &Arguments, config: &Config) -> Option<ServerConfig> {
    let mut mtqp = match &config.mtqp {
        Some(mtqp) => mtqp.clone(),
        None if a.mtqp.is_empty() && a.mtqps.is_empty() => return None,
        None => ServerConfig { listen: vec![], listen_tls: vec![], ..ServerConfig::default() },
    };
    if !a.mtqp.is_empty() || !a.mtqps.is_empty() {
        (mtqp.listen, mtqp.listen_tls) = (a.mtqp.clone(), a.mtqps.clone());
    }
    if mtqp.answer.own_domains.is_empty() {
        mtqp.answer.own_domains = config.site.domains.clone();
    }
    mtqp.answer.aliases = config.site.aliases().clone();
    Some(mtqp)
}
