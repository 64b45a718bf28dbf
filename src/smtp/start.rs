//! Opens the gateways' sockets; called once by `msgtrk serve`.

use super::binding::Binder;
use super::config::Listen;
use super::outbound::Outbound;
use super::server::{Counters, Gateway, Rooms};
use crate::store::StoreError;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Why a gateway cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The config makes no sense.
    #[error("{0}")]
    Config(String),
    /// The address cannot be listened on.
    #[error("smtp: {address}: {error}")]
    Bind {
        /// Address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("smtp: {0}")]
    Tls(#[from] super::net::TlsError),
    /// DNS cannot be asked.
    #[error("smtp: {0}")]
    Dns(String),
    /// The index cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the gateways work with.
pub struct Setup<'a> {
    /// The ledger, parser files, and the config.
    pub binder: Arc<Binder>,
    /// Gateways named on the command line, besides those of the config.
    pub listen: &'a [Listen],
    /// The gateway behind the MTA named on the command line, in place of the config's address.
    pub out: Option<SocketAddr>,
    /// This machine's name.
    pub this_host: &'a str,
    /// The name under which a host is kept.
    pub host_name: &'a dyn Fn(&str) -> String,
    /// Store and open records.
    pub view: crate::ingest::open::View,
}

/// What was opened.
pub struct Started {
    /// What for (`smtp`, `smtp-out`) and the real address of each socket, in the order of the config, then of the command line.
    pub listening: Vec<(String, SocketAddr)>,
    /// What they count.
    pub counters: Arc<Counters>,
}

/// Opens all sockets and serves them on the runtime.
///
/// # Errors
/// [`StartError`]; sockets opened before it are closed when the runtime ends.
pub fn start(runtime: &tokio::runtime::Runtime, setup: &Setup) -> Result<Started, StartError> {
    let config = &setup.binder.config;
    config.check().map_err(StartError::Config)?;
    let counters: Arc<Counters> = Arc::default();
    let rooms = Arc::new(Rooms::new(config));
    let bind = |address: SocketAddr| {
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(|error| StartError::Bind { address, error })?;
        let real = listener.local_addr().map_err(|error| StartError::Bind { address, error })?;
        Ok::<_, StartError>((listener, real))
    };
    let mut listening = Vec::new();
    for listen in config.listen.iter().chain(setup.listen) {
        listen.check().map_err(StartError::Config)?;
        if setup.binder.parsers.by_name(&listen.mta).is_none() {
            return Err(StartError::Config(format!("smtp: no parser file is called {:?} (see msgtrk parsers list)", listen.mta)));
        }
        let (binder, counters, rooms) = (Arc::clone(&setup.binder), Arc::clone(&counters), Arc::clone(&rooms));
        let gateway = Gateway::new(listen.clone(), binder, counters, rooms, setup.this_host, setup.host_name)?;
        let (listener, address) = bind(listen.listen)?;
        runtime.spawn(Arc::new(gateway).serve(listener));
        listening.push(("smtp".to_string(), address));
    }
    let out = match (config.out.clone(), setup.out) {
        (Some(out), address) => Some(super::config::Outbound { listen: address.unwrap_or(out.listen), ..out }),
        (None, Some(listen)) => Some(super::config::Outbound { listen, routes: Default::default(), verify_tls: false }),
        (None, None) => None,
    };
    if let Some(out) = out {
        let (listener, address) = bind(out.listen)?;
        let _inside = runtime.enter();
        let gateway = Outbound::new(out, Arc::clone(&setup.binder), setup.view.clone(), Arc::clone(&counters), rooms, setup.this_host)?;
        runtime.spawn(Arc::new(gateway).serve(listener));
        listening.push(("smtp-out".to_string(), address));
    }
    Ok(Started { listening, counters })
}
