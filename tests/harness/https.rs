//! Self-signed server certificates, and clients that trust one of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::Client;
use crate::origin::Codec;

/// A self-signed certificate with its private key.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate as PEM.
    pub certificate: String,
    /// The private key as PEM.
    pub key: String,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Creates a certificate for a host name.
    pub fn for_host(host: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).expect("a host's name");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Self { certificate, key, der: made.cert.der().clone() }
    }

    /// Returns the Secret `name` with the certificate and the key.
    pub fn secret(&self, name: &str) -> String {
        let block = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let (certificate, key) = (block(&self.certificate), block(&self.key));
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: \
             |\n{certificate}  tls.key: |\n{key}"
        )
    }

    /// Connects by TLS to a server that presents this certificate for `host`.
    ///
    /// # Errors
    /// The connection failed, or the server presented another certificate or none.
    pub async fn connect(&self, address: SocketAddr, host: &str, codec: Codec) -> io::Result<Client> {
        Self::connect_with(self.client(codec), address, host, codec).await
    }

    /// Connects as [`Certificate::connect`] does, without SNI.
    ///
    /// # Errors
    /// As those of [`Certificate::connect`].
    pub async fn connect_without_sni(&self, address: SocketAddr, host: &str, codec: Codec) -> io::Result<Client> {
        let mut config = self.client(codec);
        config.enable_sni = false;
        Self::connect_with(config, address, host, codec).await
    }

    async fn connect_with(config: ClientConfig, address: SocketAddr, host: &str, codec: Codec) -> io::Result<Client> {
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let socket = TcpStream::connect(address).await?;
        let stream = Box::pin(connector.connect(name, socket)).await?;
        Ok(match codec {
            Codec::Http1 => Box::pin(Client::http1_over(stream, address)).await,
            Codec::Http2 => Box::pin(Client::http2_over(stream, address)).await,
        })
    }

    fn client(&self, codec: Codec) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("TLS 1.3");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![match codec {
            Codec::Http1 => b"http/1.1".to_vec(),
            Codec::Http2 => b"h2".to_vec(),
        }];
        config
    }
}
