//! The certificate that is actually served: what a visitor's client is given, whatever lies on the disk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::PortError;
use crate::model::{Digest, Domain};

/// Nobody could be asked which certificate is served.
#[derive(Debug, thiserror::Error)]
pub enum ServedError {
    #[error("`{0}` is no name for a TLS handshake")]
    Name(Domain),
    #[error("cannot prepare a TLS handshake")]
    Prepare(#[source] rustls::Error),
    #[error("nobody answers at {0}")]
    Connect(SocketAddr, #[source] std::io::Error),
    #[error("the TLS handshake with {address} for `{name}` failed")]
    Handshake { address: SocketAddr, name: Domain, source: std::io::Error },
    #[error("{address} did not end the TLS handshake for `{name}` within {} s", limit.as_secs_f32())]
    Timeout { address: SocketAddr, name: Domain, limit: Duration },
}

impl From<ServedError> for PortError {
    fn from(error: ServedError) -> Self {
        let says = error.to_string();
        match error {
            ServedError::Name(_) => PortError::new("served.name", says),
            ServedError::Prepare(source) => PortError::new("served.prepare", says).because(source),
            ServedError::Connect(_, source) => {
                PortError::new("served.connect", says).because(source).retryable().hint("systemctl status nginx")
            }
            ServedError::Handshake { source, .. } => {
                PortError::new("served.handshake", says).because(source).retryable()
            }
            ServedError::Timeout { .. } => PortError::new("served.timeout", says).retryable(),
        }
    }
}

/// The chain that `address` presents for `name` (SNI), the leaf first; at least one. Nobody's trust is asked, but the
/// handshake is finished: whoever presents the leaf has its key.
pub async fn served(
    address: SocketAddr,
    name: &Domain,
    limit: Duration,
) -> Result<Vec<CertificateDer<'static>>, ServedError> {
    let server_name = ServerName::try_from(name.as_str().to_owned()).map_err(|_| ServedError::Name(name.clone()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(ServedError::Prepare)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let failed = |source| ServedError::Handshake { address, name: name.clone(), source };
    let talk = async {
        let stream = TcpStream::connect(address).await.map_err(|error| ServedError::Connect(address, error))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(server_name, stream).await.map_err(failed)?;
        let (_, session) = stream.get_ref();
        let chain = session.peer_certificates().unwrap_or_default();
        Ok(chain.iter().map(|one| one.clone().into_owned()).collect())
    };
    let done = timeout(limit, talk).await;
    done.unwrap_or_else(|_| Err(ServedError::Timeout { address, name: name.clone(), limit }))
}

/// What is wrong with what is served. Empty: it is what should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    #[error("another certificate is served (SHA-256 {served}) than the present one (SHA-256 {present})")]
    Leaf { served: Digest, present: Digest },
    #[error("the certificates between the site's own and the authority's root are not those that came with it")]
    Chain,
    #[error("no certificate is served")]
    Nothing,
}

/// Compares what is served with the chain on the disk, DER, leaf first. Pure.
pub fn compare(served: &[CertificateDer<'_>], present: &[CertificateDer<'_>]) -> Option<Difference> {
    let (Some(leaf), Some(own)) = (served.first(), present.first()) else {
        return (!present.is_empty()).then_some(Difference::Nothing);
    };
    if leaf != own {
        return Some(Difference::Leaf { served: Digest::of(leaf), present: Digest::of(own) });
    }
    (served != present).then_some(Difference::Chain)
}

/// Accepts every certificate, but no handshake signed with another key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let made = rcgen::generate_simple_self_signed(["blog.example.org".to_owned()]).unwrap();
        (made.cert.der().clone(), PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap())
    }

    async fn server(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> SocketAddr {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok();
        });
        address
    }

    #[tokio::test]
    async fn the_chain_that_is_served_is_seen_and_compared() {
        let ((leaf, key), (other, _)) = (certificate(), certificate());
        let name: Domain = "blog.example.org".parse().unwrap();
        let chain = vec![leaf.clone(), other.clone()];
        let address = server(chain.clone(), key).await;
        let seen = served(address, &name, LIMIT).await.unwrap();
        assert_eq!(seen, chain);
        assert_eq!(compare(&seen, &chain), None);
        assert_eq!(compare(&seen, &[leaf]), Some(Difference::Chain));
        assert!(matches!(compare(&seen, &[other]), Some(Difference::Leaf { .. })));
        assert_eq!(compare(&[], &chain), Some(Difference::Nothing));
    }

    #[tokio::test]
    async fn whoever_does_not_speak_is_told_apart_from_nobody() {
        let name: Domain = "blog.example.org".parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent = served(address, &name, Duration::from_millis(50)).await;
        assert!(matches!(silent, Err(ServedError::Timeout { .. })), "{silent:?}");
        drop(listener);
        let nobody = served(address, &name, LIMIT).await;
        assert!(matches!(nobody, Err(ServedError::Connect(..))), "{nobody:?}");
    }
}
