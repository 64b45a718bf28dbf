//! Sockets and TLS for the SMTP side.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A handshake takes no longer.
pub const HANDSHAKE: Duration = Duration::from_secs(30);
/// A connection is made in this time.
pub const CONNECT: Duration = Duration::from_secs(30);

/// A byte stream of any sort.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Why TLS cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate or key cannot be read.
    #[error("{path}: {error}")]
    Pem {
        /// File.
        path: String,
        /// Why.
        error: rustls::pki_types::pem::Error,
    },
    /// They do not fit each other, or rustls does not take them.
    #[error("certificate and key: {0}")]
    Pair(#[from] rustls::Error),
    /// A server's name that no certificate can bear.
    #[error("{0}: no name that can stand in a certificate")]
    Name(String),
}

/// TLS as a server, with a certificate and key in PEM.
///
/// # Errors
/// [`TlsError`].
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let pem = |path: &Path| {
        let path = path.display().to_string();
        move |error| TlsError::Pem { path, error }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).map_err(pem(certificate))?.collect();
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(pem(certificate))?, key_der)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// TLS as a client. With `verify`, the server's certificate must be good for its name, by the system's roots and those
/// in `roots` (PEM); without, any will do: that hides the mail from who only listens, no more.
///
/// # Errors
/// [`TlsError`].
pub fn connector(verify: bool, roots: Option<&Path>) -> Result<TlsConnector, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let config = if verify {
        let mut store = rustls::RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = roots {
            let pem = |error| TlsError::Pem { path: path.display().to_string(), error };
            let own: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(pem)?.collect();
            store.add_parsable_certificates(own.map_err(pem)?);
        }
        builder.with_root_certificates(store).with_no_client_auth()
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Any(provider))).with_no_client_auth()
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes any certificate, but wants its key to have signed.
#[derive(Debug)]
struct Any(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The MTA behind a gateway.
pub struct Backend {
    to: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Backend {
    /// `host:port`, the path of a socket, or `tls://host:port`. `verify` and `roots` as for [`connector`].
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(to: &str, verify: bool, roots: Option<&Path>) -> Result<Self, TlsError> {
        let Some(secure) = to.strip_prefix(TLS) else { return Ok(Backend { to: to.into(), tls: None }) };
        let host = secure.rsplit_once(':').map_or(secure, |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_string()).map_err(|_| TlsError::Name(host.into()))?;
        Ok(Backend { to: secure.into(), tls: Some((connector(verify, roots)?, name)) })
    }

    /// Connects, says `first` (a PROXY header, in the clear), and does TLS if that is asked for.
    ///
    /// # Errors
    /// As the system says, that it took too long, or what is wrong with the certificate.
    pub async fn connect(&self, first: &[u8]) -> std::io::Result<Box<dyn Io>> {
        let mut io = connect_to(&self.to).await?.0;
        let rest = async {
            io.write_all(first).await?;
            match &self.tls {
                Some((tls, name)) => Ok(Box::new(tls.connect(name.clone(), io).await?) as Box<dyn Io>),
                None => Ok(io),
            }
        };
        tokio::time::timeout(HANDSHAKE, rest).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

/// Before the address of a backend that speaks TLS from the first byte.
pub const TLS: &str = "tls://";

/// Connects to `host:port`, or to a socket by its path; with the address that was connected to.
///
/// # Errors
/// As the system says, or that it took too long.
pub async fn connect_to(to: &str) -> std::io::Result<(Box<dyn Io>, Option<std::net::IpAddr>)> {
    let connecting = async {
        if to.starts_with('/') {
            return Ok((Box::new(UnixStream::connect(to).await?) as Box<dyn Io>, None));
        }
        let stream = TcpStream::connect(to).await?;
        let _ = stream.set_nodelay(true);
        let peer = stream.peer_addr().ok().map(|a| a.ip());
        Ok((Box::new(stream) as Box<dyn Io>, peer))
    };
    tokio::time::timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// Ends a connection so that the last word arrives: a close with bytes unread would take it back.
pub async fn part(mut stream: Box<dyn Io>) {
    let ending = async {
        let _ = stream.shutdown().await;
        let mut void = [0; 4096];
        let mut left = 1 << 20;
        while let Ok(n @ 1..) = stream.read(&mut void).await {
            left -= n.min(left);
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), ending).await;
}
