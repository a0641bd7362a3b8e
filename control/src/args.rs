//! The command line: flags, checked and turned into what `app` runs. Called by `main`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_identity::is_this_machine;
use weir_loader::{CompileRequest, cache_folder};
use weir_model::{ClusterName, HumanDuration, TrustDomain, UnitError};

use crate::app::{Bootstrap, LogStyle};
use crate::authority::GivenFiles;
use crate::bundle::TrustedSigners;
use crate::limits::{
    DEFAULT_CERTIFICATE_LIFETIME, DEFAULT_ETCD_PREFIX, MAX_CERTIFICATE_LIFETIME, MIN_CERTIFICATE_LIFETIME,
};
use crate::store::{EtcdOptions, EtcdTls, StorePlace};

/// The control plane: tells every proxy what to serve.
#[derive(Debug, Parser)]
#[command(name = "weir-control", version, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<CommandArgs>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum CommandArgs {
    /// Compiles a module into the cache (the control plane runs this as a child process)
    #[command(hide = true)]
    Compile {
        /// The module; `-` is standard input
        module: PathBuf,
        /// Folder of compiled modules
        #[arg(long, value_name = "DIR")]
        cache: PathBuf,
    },
}

/// What is asked for.
#[derive(Debug)]
pub enum Action {
    /// To run.
    Run(Box<Bootstrap>),
    /// To compile a module.
    Compile(CompileRequest),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// File or folder of resources, watched; served together with what is applied
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Where what is applied is kept: a folder of its own, or an etcd that several control planes share,
    /// etcd://HOST:PORT[,HOST:PORT...][/PREFIX], etcds:// by TLS [default: weir in the user's state folder]
    #[arg(long, value_name = "DIR|URL")]
    store: Option<PathBuf>,
    /// Folder of what is this control plane's own when --store is an etcd: the audit log and the first token
    /// [default: weir in the user's state folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Certificates (PEM) of those who sign those of the etcd's members
    #[arg(long, value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// Own certificate (PEM) for the etcd
    #[arg(long, value_name = "FILE", requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,
    /// Key (PEM) of --etcd-cert
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// Address of the control API, on loopback without --api-tls-cert; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15080")]
    api: SocketAddr,
    /// Certificate (PEM) of the control API; with it --api may be any address, and is https
    #[arg(long, value_name = "FILE", requires = "api_tls_key")]
    api_tls_cert: Option<PathBuf>,
    /// Key (PEM) of --api-tls-cert
    #[arg(long, value_name = "FILE", requires = "api_tls_cert")]
    api_tls_key: Option<PathBuf>,
    /// Loopback address that proxies connect to
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15010")]
    xds: SocketAddr,
    /// Address that proxies connect to by mutual TLS, and get their certificates from
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15012")]
    xds_mtls: SocketAddr,
    /// Namespace of the identities that are signed
    #[arg(long, value_name = "NAME", default_value = "weir.local", value_parser = parse_domain)]
    trust_domain: TrustDomain,
    /// How long a certificate lives, 4s to 720h; proxies renew at half of it [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = parse_lifetime)]
    certificate_lifetime: Option<Duration>,
    /// Certificate (PEM) that signs identities, then those between it and a root; in place of a root of our own
    #[arg(long, value_name = "FILE", requires_all = ["ca_key", "ca_root"])]
    ca_cert: Option<PathBuf>,
    /// Key (PEM, PKCS #8) of --ca-cert
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
    /// Roots (PEM) that the mesh believes, with --ca-cert
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_root: Option<PathBuf>,
    /// Loopback address that proxies fetch modules from
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15011")]
    modules: SocketAddr,
    /// Name of the cluster by which an Envoy reaches --modules
    #[arg(long, value_name = "NAME", default_value = "weir_modules", value_parser = parse_cluster)]
    module_cluster: ClusterName,
    /// Folder of shipped modules [default: plugins beside this program]
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Folder of compiled modules: filters are started before they are told [default: weir in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Public keys (PEM, Ed25519) of those whose bundles are taken [default: everybody's are, signed or not]
    #[arg(long, value_name = "FILE")]
    trusted_signers: Option<PathBuf>,
    /// File that the real addresses are written to, as JSON
    #[arg(long, value_name = "FILE")]
    address_path: Option<PathBuf>,
    /// How the log on standard error looks
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormatArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormatArg {
    Text,
    Json,
}

impl CommandLine {
    /// What is asked for, checked.
    ///
    /// # Errors
    /// Why that cannot be done, in one line.
    pub fn action(self) -> Result<Action, String> {
        match self.command {
            Some(CommandArgs::Compile { module, cache }) => Ok(Action::Compile(CompileRequest { module, cache })),
            None => self.run.bootstrap().map(|bootstrap| Action::Run(Box::new(bootstrap))),
        }
    }
}

impl RunArgs {
    /// Where what is applied is kept, and what is this process's own.
    fn store(&self) -> Result<(StorePlace, PathBuf), String> {
        let url = self.store.as_ref().and_then(|store| store.to_str());
        let own = self.etcd_cert.clone().zip(self.etcd_key.clone());
        let tls = self.etcd_ca.clone().map(|ca| EtcdTls { ca, own: own.clone() });
        let plain = url.and_then(|url| url.strip_prefix("etcd://"));
        let encrypted = url.and_then(|url| url.strip_prefix("etcds://"));
        if encrypted.is_none() && (tls.is_some() || own.is_some()) {
            return Err("--etcd-ca and --etcd-cert go with --store etcds://".to_owned());
        }
        let options = match (plain, encrypted) {
            (Some(rest), _) => parse_etcd(rest, None)?,
            (_, Some(_)) if tls.is_none() => return Err("--store etcds:// goes with --etcd-ca".to_owned()),
            (_, Some(rest)) => parse_etcd(rest, tls)?,
            (None, None) if self.state.is_some() => return Err("--state goes with --store etcd://".to_owned()),
            (None, None) => {
                let folder = self.store.clone().unwrap_or_else(state_folder);
                return Ok((StorePlace::Folder(folder.clone()), folder));
            }
        };
        Ok((StorePlace::Etcd(options), self.state.clone().unwrap_or_else(state_folder)))
    }

    fn bootstrap(self) -> Result<Bootstrap, String> {
        let has_tls = self.api_tls_cert.is_some();
        for (flag, address) in [("--api", self.api), ("--xds", self.xds), ("--modules", self.modules)] {
            let is_encrypted = flag == "--api" && has_tls;
            if !is_encrypted && !address.ip().is_loopback() {
                return Err(format!("{flag} {address} is not a loopback address, and what goes there is plain text"));
            }
        }
        let (store, folder) = self.store()?;
        let beside = || std::env::current_exe().ok()?.parent().map(|folder| folder.join("plugins"));
        Ok(Bootstrap {
            config: self.config,
            store,
            folder,
            api: self.api,
            api_tls: self.api_tls_cert.zip(self.api_tls_key),
            xds: self.xds,
            xds_mtls: self.xds_mtls,
            trust_domain: self.trust_domain,
            certificate_lifetime: self.certificate_lifetime.unwrap_or(DEFAULT_CERTIFICATE_LIFETIME),
            ca: self.ca_cert.zip(self.ca_key).zip(self.ca_root).map(|((certificates, key), roots)| GivenFiles {
                certificates,
                key,
                roots,
            }),
            modules: self.modules,
            module_cluster: self.module_cluster,
            plugins: self.plugins.or_else(beside).unwrap_or_else(|| PathBuf::from("plugins")),
            cache: cache_folder(self.cache)?,
            trusted_signers: match &self.trusted_signers {
                None => TrustedSigners::default(),
                Some(path) => TrustedSigners::read(path)?,
            },
            address_path: self.address_path,
            log_style: match self.log_format {
                LogFormatArg::Text => LogStyle::Text,
                LogFormatArg::Json => LogStyle::Json,
            },
        })
    }
}

/// The etcd of a URL.
fn parse_etcd(rest: &str, tls: Option<EtcdTls>) -> Result<EtcdOptions, String> {
    let (members, prefix) = rest.split_once('/').unwrap_or((rest, DEFAULT_ETCD_PREFIX));
    let prefix = if prefix.is_empty() { DEFAULT_ETCD_PREFIX } else { prefix.trim_end_matches('/') };
    let members: Vec<String> = members.split(',').map(str::to_owned).collect();
    for member in &members {
        let bad = |what: &str| Err(format!("--store: `{member}` {what}"));
        let Some((host, port)) = member.rsplit_once(':') else { return bad("is not HOST:PORT") };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host) || port.parse::<u16>().is_err() {
            return bad("is not HOST:PORT");
        }
        if tls.is_none() && !is_this_machine(host) {
            return bad("is not this machine, and the roots' keys would go there in plain text; write etcds://");
        }
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    if !prefix.bytes().all(is_plain) {
        return Err(format!("--store: the prefix `{prefix}` may have letters, digits, `-`, `.`, `_` and `/`"));
    }
    Ok(EtcdOptions { members, prefix: format!("{prefix}/"), tls })
}

/// XDG Base Directory Specification: `$XDG_STATE_HOME`, or `~/.local/state`; a daemon without a home has `/var/lib`.
fn state_folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = || variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    user().unwrap_or_else(|| PathBuf::from("/var/lib")).join("weir")
}

fn parse_cluster(text: &str) -> Result<ClusterName, String> {
    ClusterName::new(text).map_err(|error| error.to_string())
}

fn parse_domain(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::new(text).map_err(|error| error.to_string())
}

fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let HumanDuration(lifetime) = text.parse().map_err(|error: UnitError| error.to_string())?;
    if (MIN_CERTIFICATE_LIFETIME..=MAX_CERTIFICATE_LIFETIME).contains(&lifetime) {
        return Ok(lifetime);
    }
    let (least, most) = (HumanDuration(MIN_CERTIFICATE_LIFETIME), HumanDuration(MAX_CERTIFICATE_LIFETIME));
    Err(format!("a certificate lives {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn bootstrap(arguments: &[&str]) -> Result<Bootstrap, String> {
        let arguments = std::iter::once("weir-control").chain(arguments.iter().copied());
        CommandLine::try_parse_from(arguments).map_err(|error| error.to_string())?.run.bootstrap()
    }

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn lives_and_domains_have_bounds() {
        assert!(bootstrap(&["--certificate-lifetime", "4s", "--trust-domain", "mesh.example"]).is_ok());
        for (arguments, expected) in [
            (["--certificate-lifetime", "3s"], "a certificate lives 4s to"),
            (["--certificate-lifetime", "721h"], "a certificate lives 4s to"),
            (["--certificate-lifetime", "soon"], "--certificate-lifetime"),
            (["--trust-domain", "Mesh"], "is not a trust domain"),
        ] {
            let error = bootstrap(&arguments).err().unwrap();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn a_store_is_a_folder_or_an_etcd() {
        let etcd = |arguments: &[&str]| match bootstrap(arguments).unwrap().store {
            StorePlace::Etcd(options) => options,
            StorePlace::Folder(folder) => panic!("{}", folder.display()),
        };
        let options = etcd(&["--store", "etcd://127.0.0.1:2379,[::1]:2379/mesh/a/", "--state", "s"]);
        assert_eq!((options.members.len(), options.prefix.as_str()), (2, "mesh/a/"));
        let options = etcd(&["--store", "etcds://a.example:2379", "--etcd-ca", "ca.pem"]);
        assert_eq!((options.to_string().as_str(), options.prefix.as_str()), ("etcds://a.example:2379/weir", "weir/"));
        for (arguments, expected) in [
            (&["--store", "etcd://10.0.0.1:2379"][..], "write etcds://"),
            (&["--store", "etcd://127.0.0.1"], "is not HOST:PORT"),
            (&["--store", "etcds://a:1"], "goes with --etcd-ca"),
            (&["--store", "etcd://127.0.0.1:1/a b"], "the prefix `a b`"),
            (&["--store", "folder", "--state", "s"], "--state goes with"),
            (&["--store", "folder", "--etcd-ca", "ca.pem"], "go with --store etcds://"),
        ] {
            let error = bootstrap(arguments).err().unwrap();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn plain_text_stays_on_this_machine() {
        assert!(bootstrap(&["--store", "s", "--api", "[::1]:0"]).is_ok());
        for flag in ["--api", "--xds", "--modules"] {
            let error = bootstrap(&["--store", "s", flag, "0.0.0.0:1"]).unwrap_err();
            assert!(error.contains("is not a loopback address"), "{error}");
        }
    }
}
