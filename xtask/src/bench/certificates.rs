//! The certificates of the bench: a CA, the origin's and a client's, made by OpenSSL in a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The name in the origin's certificate.
pub(super) const TLS_HOST: &str = "bench.example";

/// Certificates and keys, as PEM, in the files of a folder.
pub(super) struct Certificates {
    folder: PathBuf,
    pub(super) authority: String,
    pub(super) client: String,
    pub(super) client_key: String,
}

impl Certificates {
    /// Makes the certificates. The origin's is for [`TLS_HOST`].
    pub(super) fn make(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let openssl = Folder(folder);
        openssl.with_new_key(&[
            "req",
            "-x509",
            "-days",
            "30",
            "-subj",
            "/CN=bench CA",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ])?;
        for (name, extension) in
            [("origin", format!("subjectAltName=DNS:{TLS_HOST}")), ("client", "subjectAltName=DNS:client".to_owned())]
        {
            fs::write(folder.join("extensions"), extension)?;
            let (key, request, out) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
            openssl.with_new_key(&["req", "-subj", &format!("/CN={name}"), "-keyout", &key, "-out", &request])?;
            openssl.run(&[
                "x509",
                "-req",
                "-days",
                "30",
                "-in",
                &request,
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-extfile",
                "extensions",
                "-out",
                &out,
            ])?;
        }
        let read = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| name.to_owned());
        let (authority, client, client_key) = (read("ca.pem")?, read("client.pem")?, read("client.key")?);
        fs::write(folder.join("client-both.pem"), format!("{client}{client_key}"))?;
        Ok(Self { folder: folder.to_owned(), authority, client, client_key })
    }

    /// Returns the files for configurations.
    pub(super) fn values(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        vec![
            ("CA", file("ca.pem")),
            ("CLIENT", file("client.pem")),
            ("CLIENT_KEY", file("client.key")),
            ("CLIENT_PEM", file("client-both.pem")),
            ("SERVER", file("origin.pem")),
            ("SERVER_KEY", file("origin.key")),
        ]
    }
}

/// The folder in which OpenSSL runs.
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    /// Makes a certificate or a request with a new key.
    fn with_new_key(&self, arguments: &[&str]) -> Result<()> {
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let (command, rest) = arguments.split_first().context("a command of OpenSSL")?;
        self.run(&[&[*command], key.as_slice(), rest].concat())
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let mut openssl = Command::new("openssl");
        let output = openssl.args(arguments).current_dir(self.0).stdin(Stdio::null()).output();
        let output = output.context("openssl did not start")?;
        ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}
