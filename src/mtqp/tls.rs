//! TLS: the server's certificates by name, and the client's way of checking one. TLS 1.2 and 1.3 only (RFC 8996).

use super::config::{Certificate, TlsVersion};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, ProtocolVersion, RootCertStore, ServerConfig, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read, or holds nothing of what it should.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The TLS library refuses it.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |what: String| TlsError::File { path: path.into(), what };
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|e| bad(e.to_string()))?.collect();
    let all = all.map_err(|e| bad(e.to_string()))?;
    if all.is_empty() { Err(bad("no certificate in it".into())) } else { Ok(all) }
}

#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

/// Whether a certificate bears a name in its subjectAltName.
fn bears(key: &CertifiedKey, name: &str) -> bool {
    let (Some(cert), Ok(name)) = (key.cert.first(), ServerName::try_from(name.to_string())) else { return false };
    ParsedCertificate::try_from(cert).is_ok_and(|c| rustls::client::verify_server_name(&c, &name).is_ok())
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|n| self.0.iter().find(|k| bears(k, n)));
        named.or(self.0.first()).cloned()
    }
}

/// A server's certificates.
#[derive(Debug)]
pub struct Certificates {
    keys: Vec<(Arc<CertifiedKey>, Arc<ServerConfig>)>,
    any: Arc<ServerConfig>,
}

impl Certificates {
    /// Reads all PEM files.
    ///
    /// # Errors
    /// [`TlsError`] with the file at fault; none is used then.
    pub fn load(files: &[Certificate]) -> Result<Self, TlsError> {
        let provider = provider();
        let mut keys = Vec::new();
        for f in files {
            let chain = certificates_of(&f.chain)?;
            let key = PrivateKeyDer::from_pem_file(&f.key).map_err(|e| TlsError::File { path: f.key.clone(), what: e.to_string() })?;
            let key =
                CertifiedKey::from_der(chain, key, &provider).map_err(|e| TlsError::File { path: f.chain.clone(), what: e.to_string() })?;
            let key = Arc::new(key);
            keys.push((key.clone(), server_config(ByName(vec![key]))?));
        }
        let any = server_config(ByName(keys.iter().map(|(k, _)| k.clone()).collect()))?;
        Ok(Certificates { keys, any })
    }

    /// The certificate that bears the name given to STARTTLS (RFC 3887, 6); `None`: `/bad-fqdn`.
    pub fn for_name(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.keys.iter().find(|(k, _)| bears(k, name)).map(|(_, c)| c.clone())
    }

    /// For TLS from the first byte: the client's hello names the host.
    pub fn for_any(&self) -> Arc<ServerConfig> {
        self.any.clone()
    }
}

fn server_config(resolver: ByName) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver))))
}

/// The version of a finished handshake.
pub fn version(v: Option<ProtocolVersion>) -> Option<TlsVersion> {
    match v {
        Some(ProtocolVersion::TLSv1_2) => Some(TlsVersion::Tls12),
        Some(ProtocolVersion::TLSv1_3) => Some(TlsVersion::Tls13),
        _ => None,
    }
}

/// Roots that a client trusts: the system's and those of a file.
///
/// # Errors
/// When the file cannot be read.
pub fn roots(file: Option<&Path>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = file {
        for cert in certificates_of(path)? {
            store.add(cert).map_err(|e| TlsError::File { path: path.into(), what: e.to_string() })?;
        }
    }
    Ok(Arc::new(store))
}

/// Checks a server's certificate, and notes whether it held; without `must` one that does not hold is borne, as best effort
/// (RFC 3887, 6.1 and 11).
#[derive(Debug)]
pub struct Check {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    must: bool,
    held: AtomicBool,
}

impl Check {
    /// Whether the certificate of the last handshake held.
    pub fn held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }
}

/// What a client shakes hands with: at least `least`, certificates checked against `roots`.
///
/// # Errors
/// When the library refuses it.
pub fn client(roots: &Arc<RootCertStore>, least: TlsVersion, must: bool) -> Result<(Arc<ClientConfig>, Arc<Check>), TlsError> {
    let provider = provider();
    let inner = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build().ok();
    let check = Arc::new(Check { inner, provider: provider.clone(), must, held: AtomicBool::new(false) });
    let versions: &[&rustls::SupportedProtocolVersion] = match least {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let config = builder.dangerous().with_custom_certificate_verifier(check.clone()).with_no_client_auth();
    Ok((Arc::new(config), check))
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = match &self.inner {
            Some(inner) => inner.verify_server_cert(end_entity, intermediates, server_name, ocsp, now),
            None => Err(rustls::Error::General("no root certificates to check it with".into())),
        };
        self.held.store(result.is_ok(), Ordering::Relaxed);
        if self.must { result } else { Ok(ServerCertVerified::assertion()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
