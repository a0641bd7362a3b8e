//! Certificates for the world, made by a test, and clients that believe one of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::Client;
use crate::origin::Codec;

/// A certificate with its key.
#[derive(Debug)]
pub struct Certificate {
    /// As PEM.
    pub certificate: String,
    /// As PEM.
    pub key: String,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// A new one for a host.
    pub fn of(host: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).expect("a host's name");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Self { certificate, key, der: made.cert.der().clone() }
    }

    /// As the Secret of this name.
    pub fn secret(&self, name: &str) -> String {
        let block = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let (certificate, key) = (block(&self.certificate), block(&self.key));
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: \
             |\n{certificate}  tls.key: |\n{key}"
        )
    }

    /// A connection to whoever shows this certificate for a host; `asks` = by name (SNI).
    pub async fn connect(&self, address: SocketAddr, (host, asks): (&str, bool), codec: Codec) -> io::Result<Client> {
        let connector = TlsConnector::from(self.client(asks, codec));
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let socket = TcpStream::connect(address).await?;
        let stream = Box::pin(connector.connect(name, socket)).await?;
        Ok(match codec {
            Codec::Http1 => Box::pin(Client::http1_over(stream, address)).await,
            Codec::Http2 => Box::pin(Client::http2_over(stream, address)).await,
        })
    }

    fn client(&self, asks: bool, codec: Codec) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("TLS 1.3");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.enable_sni = asks;
        config.alpn_protocols = vec![match codec {
            Codec::Http1 => b"http/1.1".to_vec(),
            Codec::Http2 => b"h2".to_vec(),
        }];
        Arc::new(config)
    }
}
