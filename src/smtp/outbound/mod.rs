//! The gateway behind an MTA: its next hop. It has no queue: what it says of a message is what the next host said, and
//! while no host answers it says 4xx, so that the MTA keeps the message and comes again.
//!
//! MAIL is answered at once and waits for the first recipient, whose domain tells the next host; if that host then refuses
//! MAIL, the recipient hears it. One recipient domain a transaction: others get 452 4.5.3 and come again in one of their own.
//!
//! The MTA need not know of marks: the envelope id, which every MTA hands on to a host that offers DSN, tells which
//! message it is ([`plan::known`]). What the gateway then noted about next hosts makes "relayed" a "transferred".

pub mod plan;
mod talk;

use super::binding::{Binder, Next, Place};
use super::client::{Client, ClientError};
use super::config::Outbound as OutboundConfig;
use super::hosts::{Dns, Hosts, NextHost, NoHosts, Routes};
use super::net::connector;
use super::server::{Counters, Rooms, accept};
use super::start::StartError;
use crate::ingest::open::View;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

/// Next hosts tried for one recipient.
const MAX_HOSTS: usize = 5;

/// The gateway behind an MTA.
pub struct Outbound {
    hosts: Box<dyn Hosts>,
    tls: TlsConnector,
    verify: bool,
    name: String,
    binder: Arc<Binder>,
    view: View,
    counters: Arc<Counters>,
    rooms: Arc<Rooms>,
}

impl Outbound {
    /// A gateway as the config says.
    ///
    /// # Errors
    /// When DNS cannot be asked, or TLS cannot be done.
    pub fn new(
        config: OutboundConfig,
        binder: Arc<Binder>,
        view: View,
        counters: Arc<Counters>,
        rooms: Arc<Rooms>,
        this_host: &str,
        name_servers: &[SocketAddr],
    ) -> Result<Self, StartError> {
        let routes = config.routes.into_iter().map(|(d, h)| (d.to_lowercase(), h)).collect();
        let other = match &routes {
            r if std::collections::BTreeMap::<String, String>::contains_key(r, "*") => None,
            _ => Some(Dns::by(name_servers).map_err(StartError::Dns)?),
        };
        let name = binder.config.name.clone().unwrap_or_else(|| this_host.to_string());
        let tls = connector(config.verify_tls, None)?;
        Ok(Outbound { hosts: Box::new(Routes { routes, other }), tls, verify: config.verify_tls, name, binder, view, counters, rooms })
    }

    /// Serves until the runtime ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let (rooms, counters) = (Arc::clone(&self.rooms), Arc::clone(&self.counters));
        accept(listener, rooms, counters, move |stream, _, room| {
            let gateway = Arc::clone(&self);
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                if talk::Talk::new(&gateway, Box::new(stream)).run().await.is_err() {
                    gateway.counters.lost.fetch_add(1, Relaxed);
                }
                drop(room);
            });
        })
        .await;
    }

    /// A connection to the best host that answers; else what the MTA is told.
    async fn next_host(&self, domain: &str) -> Result<Client, String> {
        let hosts = match self.hosts.of(domain).await {
            Ok(hosts) => hosts,
            Err(e @ NoHosts::NoDomain(_)) => return Err(format!("550 5.1.2 {e}")),
            Err(e @ NoHosts::NoMail(_)) => return Err(format!("556 5.1.10 {e}")),
            Err(e @ NoHosts::NoAddress(_)) => return Err(format!("550 5.4.4 {e}")),
            Err(e @ NoHosts::Later(..)) => return Err(format!("451 4.4.3 {e}")),
        };
        let mut last = String::from("no host");
        for host in hosts.iter().take(MAX_HOSTS) {
            match self.greeted(host).await {
                Ok(client) => return Ok(client),
                Err(e) => last = e.to_string(),
            }
        }
        Err(format!("451 4.4.1 No host of {domain} answers: {last}"))
    }

    async fn greeted(&self, next: &NextHost) -> Result<Client, ClientError> {
        let host = next.name.as_str();
        let mut client = Client::connect_at(host, next.at).await?;
        client.hello(&self.name).await?;
        if !client.offer.starttls {
            return match self.verify {
                true => Err(ClientError::Cannot("offers no STARTTLS, and the config wants verified TLS", host.into())),
                false => Ok(client),
            };
        }
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
        match client.starttls(&self.tls, name, &self.name).await {
            Ok(client) => Ok(client),
            Err(e) if self.verify => Err(e),
            Err(_) => {
                // Opportunistic: what could not be encrypted goes in the clear.
                let mut client = Client::connect_at(host, next.at).await?;
                client.hello(&self.name).await?;
                Ok(client)
            }
        }
    }

    /// What is known of a message by its envelope id.
    async fn known(&self, envelope_id: &str, now: i64) -> Option<plan::Known> {
        let (view, id) = (self.view.clone(), envelope_id.to_string());
        let looked = tokio::task::spawn_blocking(move || view.by_id(&id).map(|records| plan::known(&records, &id, now))).await;
        match looked {
            Ok(Ok(known)) => known,
            Ok(Err(e)) => {
                tracing::warn!("smtp-out: the index cannot be read, the message goes on without its mark: {e}");
                None
            }
            Err(_) => None,
        }
    }

    fn note(&self, known: &plan::Known, recipient: &[u8], next: &Next, at: i64) {
        let place = Place { host: known.slot.host.clone(), mta: known.mta.clone(), instance: known.slot.instance.clone() };
        if let Err(e) = self.binder.next_host(&place, known.slot.queue_id.as_bytes(), recipient, next, at) {
            self.counters.unbound.fetch_add(1, Relaxed);
            tracing::error!("smtp-out: what the next host of a message does cannot be noted: {e}");
        }
    }
}
