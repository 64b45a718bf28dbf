//! Figures over HTTP, for Prometheus to fetch. One request a connection, bounded in bytes and time.

use super::figures::Figures;
use crate::smtp::server::Counters;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Bytes of a request's head.
const MAX_HEAD: usize = 8 << 10;
/// A request and its answer take no longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at once.
const MAX_CLIENTS: usize = 16;

/// Serves `GET /metrics` until the runtime ends.
pub async fn serve(listener: TcpListener, figures: Arc<Figures>, gateways: Arc<Counters>) {
    let room = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (figures, gateways) = (Arc::clone(&figures), Arc::clone(&gateways));
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, &figures, &gateways)).await;
                    drop(permit);
                });
            }
            Err(e) => {
                // Out of descriptors, most likely: that does not go away by trying at once (BAR N5).
                tracing::warn!("metrics: {e}");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, figures: &Figures, gateways: &Counters) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let mut words = head.split(|b| *b == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, body) = match (method, path) {
        (b"GET" | b"HEAD", b"/metrics") => ("200 OK", figures.prometheus() + &gateways.prometheus()),
        (b"GET" | b"HEAD", _) => ("404 Not Found", "figures are at /metrics\n".to_string()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let top = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(top.as_bytes()).await?;
    if method != b"HEAD" {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}
