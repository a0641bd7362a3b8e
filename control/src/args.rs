//! The command line: parses and checks flags, and converts them to a [`Bootstrap`]. Called by `main`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_loader::limits::DEFAULT_COMPILE_TIMEOUT;
use weir_loader::{CompileRequest, cache_folder, parse_compile_timeout};
use weir_model::{ClusterName, GatewayDuration, TrustDomain, UnitError, is_loopback_host, state_dir};

use crate::app::{Bootstrap, LogFormat};
use crate::bundle_store::TrustedSigners;
use crate::ca::CaFiles;
use crate::limits::{
    DEFAULT_CERTIFICATE_LIFETIME, DEFAULT_CLOCK_SKEW, DEFAULT_ETCD_PREFIX, MAX_CERTIFICATE_LIFETIME, MAX_CLOCK_SKEW,
    MIN_CERTIFICATE_LIFETIME, MIN_ROOT_LIFETIME_FACTOR, ROOT_LIFETIME,
};
use crate::maintenance::MaintenanceTask;
use crate::store::{EtcdKeyPair, EtcdOptions, EtcdTls, StoreLocation, StoreOptions};

/// The control plane: pushes configuration to proxies over xDS
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
        /// Time for compiling it, 1s to 1h [default: 1m]
        #[arg(long, value_name = "DURATION", value_parser = parse_compile_timeout)]
        compile_timeout: Option<Duration>,
    },
    /// Writes a backup of the store and of the CA's roots to a file; a folder must not be in use (`weir backup` asks a
    /// running control plane)
    Backup {
        #[command(flatten)]
        store: StoreArgs,
        /// The file, which only this user can read
        file: PathBuf,
    },
    /// Replaces the store by a backup; control planes that share it take it over
    Restore {
        #[command(flatten)]
        store: StoreArgs,
        /// Replace a store that is not empty
        #[arg(long)]
        replace: bool,
        /// The file
        file: PathBuf,
    },
    /// Reads all of the store, or of a backup, and reports damage
    Check {
        #[command(flatten)]
        store: StoreArgs,
        /// Check this backup instead
        #[arg(long, value_name = "FILE")]
        backup: Option<PathBuf>,
    },
    /// Accepts a loss, after which a control plane starts again
    Recover {
        /// The part of the state that was lost
        part: RecoverPart,
        #[command(flatten)]
        store: StoreArgs,
        /// Trust domain of the signed identities, for `authority`
        #[arg(long, value_name = "NAME", default_value = "weir.local", value_parser = parse_domain)]
        trust_domain: TrustDomain,
    },
}

/// The part of the state that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RecoverPart {
    /// The store: its present state is accepted, empty or older
    Store,
    /// The CA's roots: a new root is created, and every workload must join again
    Authority,
    /// The admin token: a new one is written to admin.token
    AdminToken,
}

/// The work that the command line requests.
#[derive(Debug)]
pub enum Command {
    /// Runs the control plane.
    Run(Box<Bootstrap>),
    /// Compiles a module.
    Compile(CompileRequest),
    /// Maintains a store.
    Maintain(MaintenanceTask),
}

/// The location of the store.
#[derive(Debug, Clone, Args)]
struct StoreArgs {
    /// Store of applied resources: a folder, or an etcd that several control planes share,
    /// etcd://HOST:PORT[,HOST:PORT...][/PREFIX], or etcds:// for TLS [default: weir in the user's state folder]
    #[arg(long, value_name = "DIR|URL")]
    store: Option<PathBuf>,
    /// Folder of this control plane's own files when --store is an etcd: the audit log and the first token [default:
    /// weir in the user's state folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// CA certificates (PEM) of the etcd members
    #[arg(long, value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// Client certificate (PEM) for the etcd
    #[arg(long, value_name = "FILE", requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,
    /// Key (PEM) of --etcd-cert
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// File or folder of resources, watched; served together with applied resources
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    /// Start a new mesh on an empty etcd
    #[arg(long)]
    init: bool,
    /// Address of the control API, on loopback without --api-tls-cert; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15080")]
    api: SocketAddr,
    /// Certificate (PEM) of the control API; with it --api may be any address, and is https
    #[arg(long, value_name = "FILE", requires = "api_tls_key")]
    api_tls_cert: Option<PathBuf>,
    /// Key (PEM) of --api-tls-cert
    #[arg(long, value_name = "FILE", requires = "api_tls_cert")]
    api_tls_key: Option<PathBuf>,
    /// Loopback address of xDS for proxies on this machine
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15010")]
    xds: SocketAddr,
    /// Address of xDS over mutual TLS, and of certificate signing
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15012")]
    xds_mtls: SocketAddr,
    /// Trust domain of the signed identities
    #[arg(long, value_name = "NAME", default_value = "weir.local", value_parser = parse_domain)]
    trust_domain: TrustDomain,
    /// Validity of a certificate, 4s to 720h; proxies renew at half of it [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = parse_lifetime)]
    certificate_lifetime: Option<Duration>,
    /// Largest difference between the clocks of the mesh, 0s to 10m: certificates are valid that much earlier than they
    /// are signed; at most half of --certificate-lifetime [default: 30s, or half of the lifetime]
    #[arg(long, value_name = "DURATION", value_parser = parse_clock_skew)]
    clock_skew: Option<Duration>,
    /// Validity of a root certificate, at least six times --certificate-lifetime; it is rotated before its end [default:
    /// 87600h]
    #[arg(long, value_name = "DURATION", conflicts_with = "ca_cert")]
    root_lifetime: Option<GatewayDuration>,
    /// External CA: certificate (PEM) that signs identities, followed by its intermediates; replaces the built-in root
    #[arg(long, value_name = "FILE", requires_all = ["ca_key", "ca_root"])]
    ca_cert: Option<PathBuf>,
    /// Key (PEM, PKCS #8) of --ca-cert
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
    /// Roots (PEM) that the mesh trusts, with --ca-cert
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_root: Option<PathBuf>,
    /// Loopback address of modules for proxies on this machine
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15011")]
    modules: SocketAddr,
    /// Name of the cluster through which an Envoy reaches --modules
    #[arg(long, value_name = "NAME", default_value = "weir_modules", value_parser = parse_cluster)]
    module_cluster: ClusterName,
    /// Folder of shipped modules [default: plugins beside this program]
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Folder of compiled modules; filters are started before they are published [default: weir in the user's cache
    /// folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Time for compiling one module, 1s to 1h; three quarters of it as CPU time [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = parse_compile_timeout)]
    compile_timeout: Option<Duration>,
    /// Public keys (PEM, Ed25519) of trusted bundle signers [default: every bundle is trusted, signed or not]
    #[arg(long, value_name = "FILE")]
    trusted_signers: Option<PathBuf>,
    /// File that the bound addresses are written to, as JSON
    #[arg(long, value_name = "FILE")]
    address_path: Option<PathBuf>,
    /// Format of the log on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormatArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormatArg {
    Text,
    Json,
}

impl CommandLine {
    /// Returns the requested work, with checked options.
    ///
    /// # Errors
    /// A flag is invalid; the text is one line.
    pub fn action(self) -> Result<Command, String> {
        match self.command {
            Some(CommandArgs::Compile { module, cache, compile_timeout }) => {
                let timeout = compile_timeout.unwrap_or(DEFAULT_COMPILE_TIMEOUT);
                Ok(Command::Compile(CompileRequest { module, cache, timeout }))
            }
            Some(CommandArgs::Backup { store, file }) => {
                Ok(Command::Maintain(MaintenanceTask::BackUp { store: store.options(false)?, file }))
            }
            Some(CommandArgs::Restore { store, replace, file }) => {
                Ok(Command::Maintain(MaintenanceTask::Restore { store: store.options(false)?, file, replace }))
            }
            Some(CommandArgs::Check { backup: Some(file), .. }) => {
                Ok(Command::Maintain(MaintenanceTask::CheckBackup { file }))
            }
            Some(CommandArgs::Check { store, backup: None }) => {
                Ok(Command::Maintain(MaintenanceTask::Check { store: store.options(false)? }))
            }
            Some(CommandArgs::Recover { part, store, trust_domain }) => {
                let store = store.options(false)?;
                Ok(Command::Maintain(match part {
                    RecoverPart::Store => MaintenanceTask::AcceptStore { store },
                    RecoverPart::Authority => MaintenanceTask::CreateRoot { store, trust_domain },
                    RecoverPart::AdminToken => MaintenanceTask::CreateAdminToken { store },
                }))
            }
            None => self.run.bootstrap().map(|bootstrap| Command::Run(Box::new(bootstrap))),
        }
    }
}

impl StoreArgs {
    fn is_etcd(&self) -> bool {
        self.store.as_ref().and_then(|store| store.to_str()).is_some_and(|url| url.starts_with("etcd"))
    }

    /// Returns the location of the store, and the folder of this process.
    fn options(self, may_init: bool) -> Result<StoreOptions, String> {
        let url = self.store.as_ref().and_then(|store| store.to_str());
        let pair = self.etcd_cert.clone().zip(self.etcd_key.clone());
        let client = pair.map(|(certificate, key)| EtcdKeyPair { certificate, key });
        let tls = self.etcd_ca.clone().map(|ca| EtcdTls { ca, client: client.clone() });
        let plain = url.and_then(|url| url.strip_prefix("etcd://"));
        let encrypted = url.and_then(|url| url.strip_prefix("etcds://"));
        if encrypted.is_none() && (tls.is_some() || client.is_some()) {
            return Err("--etcd-ca and --etcd-cert go with --store etcds://".to_owned());
        }
        let options = match (plain, encrypted) {
            (Some(rest), _) => parse_etcd(rest, None)?,
            (_, Some(_)) if tls.is_none() => return Err("--store etcds:// goes with --etcd-ca".to_owned()),
            (_, Some(rest)) => parse_etcd(rest, tls)?,
            (None, None) if self.state.is_some() => return Err("--state goes with --store etcd://".to_owned()),
            (None, None) => {
                let folder = self.store.clone().unwrap_or_else(state_dir);
                return Ok(StoreOptions { location: StoreLocation::Folder(folder.clone()), folder, may_init });
            }
        };
        let folder = self.state.unwrap_or_else(state_dir);
        Ok(StoreOptions { location: StoreLocation::Etcd(options), folder, may_init })
    }
}

impl RunArgs {
    /// Returns the lifetime of certificates, and the clock skew.
    fn certificate_times(&self) -> Result<(Duration, Duration), String> {
        let lifetime = self.certificate_lifetime.unwrap_or(DEFAULT_CERTIFICATE_LIFETIME);
        let most = lifetime / 2;
        match self.clock_skew {
            None => Ok((lifetime, DEFAULT_CLOCK_SKEW.min(most))),
            Some(skew) if skew <= most => Ok((lifetime, skew)),
            Some(skew) => {
                let (skew, lifetime) = (GatewayDuration(skew), GatewayDuration(lifetime));
                Err(format!("--clock-skew {skew} is more than half of --certificate-lifetime, which is {lifetime}"))
            }
        }
    }

    fn bootstrap(self) -> Result<Bootstrap, String> {
        let has_tls = self.api_tls_cert.is_some();
        for (flag, address) in [("--api", self.api), ("--xds", self.xds), ("--modules", self.modules)] {
            let is_encrypted = flag == "--api" && has_tls;
            if !is_encrypted && !address.ip().is_loopback() {
                return Err(format!("{flag} {address} is not a loopback address, and its connections are plaintext"));
            }
        }
        if self.init && !self.store.is_etcd() {
            return Err("--init goes with --store etcd://: a folder shows by itself whether it is new".to_owned());
        }
        let (certificate_lifetime, clock_skew) = self.certificate_times()?;
        let root_lifetime = self.root_lifetime.map_or(ROOT_LIFETIME, |GatewayDuration(lifetime)| lifetime);
        if !(certificate_lifetime * MIN_ROOT_LIFETIME_FACTOR..=ROOT_LIFETIME).contains(&root_lifetime) {
            let (least, most) =
                (GatewayDuration(certificate_lifetime * MIN_ROOT_LIFETIME_FACTOR), GatewayDuration(ROOT_LIFETIME));
            return Err(format!("--root-lifetime is {least} to {most} with this --certificate-lifetime"));
        }
        let may_init = self.init || !self.store.is_etcd(); // A folder shows by itself whether it was used.
        let store = self.store.options(may_init)?;
        let beside_program = || std::env::current_exe().ok()?.parent().map(|folder| folder.join("plugins"));
        Ok(Bootstrap {
            config: self.config,
            store,
            api: self.api,
            api_tls: self.api_tls_cert.zip(self.api_tls_key),
            xds: self.xds,
            xds_mtls: self.xds_mtls,
            trust_domain: self.trust_domain,
            certificate_lifetime,
            root_lifetime,
            clock_skew,
            ca: self.ca_cert.zip(self.ca_key).zip(self.ca_root).map(|((certificates, key), roots)| CaFiles {
                certificates,
                key,
                roots,
            }),
            modules: self.modules,
            module_cluster: self.module_cluster,
            plugins: self.plugins.or_else(beside_program).unwrap_or_else(|| PathBuf::from("plugins")),
            cache: cache_folder(self.cache)?,
            compile_timeout: self.compile_timeout.unwrap_or(DEFAULT_COMPILE_TIMEOUT),
            trusted_signers: match &self.trusted_signers {
                None => TrustedSigners::default(),
                Some(path) => TrustedSigners::read(path)?,
            },
            address_path: self.address_path,
            log_format: match self.log_format {
                LogFormatArg::Text => LogFormat::Text,
                LogFormatArg::Json => LogFormat::Json,
            },
        })
    }
}

/// Parses an etcd URL without its scheme.
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
        if tls.is_none() && !is_loopback_host(host) {
            return bad("is not a loopback host, and would receive the keys of the roots in plaintext; use etcds://");
        }
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    if !prefix.bytes().all(is_plain) {
        return Err(format!("--store: the prefix `{prefix}` may have letters, digits, `-`, `.`, `_` and `/`"));
    }
    Ok(EtcdOptions { members, prefix: format!("{prefix}/"), tls })
}

fn parse_cluster(text: &str) -> Result<ClusterName, String> {
    ClusterName::new(text).map_err(|error| error.to_string())
}

fn parse_domain(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::new(text).map_err(|error| error.to_string())
}

fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let GatewayDuration(lifetime) = text.parse().map_err(|error: UnitError| error.to_string())?;
    if (MIN_CERTIFICATE_LIFETIME..=MAX_CERTIFICATE_LIFETIME).contains(&lifetime) {
        return Ok(lifetime);
    }
    let (shortest, longest) = (GatewayDuration(MIN_CERTIFICATE_LIFETIME), GatewayDuration(MAX_CERTIFICATE_LIFETIME));
    Err(format!("a certificate is valid for {shortest} to {longest}"))
}

fn parse_clock_skew(text: &str) -> Result<Duration, String> {
    let GatewayDuration(skew) = text.parse().map_err(|error: UnitError| error.to_string())?;
    if skew <= MAX_CLOCK_SKEW {
        return Ok(skew);
    }
    Err(format!("clocks may differ by 0s to {}; set the clocks of the machines", GatewayDuration(MAX_CLOCK_SKEW)))
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
    fn command_line_passes_clap_assertions() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn certificate_lifetime_and_trust_domain_outside_bounds_are_rejected() {
        assert!(bootstrap(&["--certificate-lifetime", "4s", "--trust-domain", "mesh.example"]).is_ok());
        for (arguments, expected) in [
            (["--certificate-lifetime", "3s"], "a certificate is valid for 4s to"),
            (["--certificate-lifetime", "721h"], "a certificate is valid for 4s to"),
            (["--certificate-lifetime", "soon"], "--certificate-lifetime"),
            (["--trust-domain", "Mesh"], "is not a trust domain"),
        ] {
            let error = bootstrap(&arguments).err().unwrap();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn clock_skew_is_at_most_half_of_certificate_lifetime() {
        let skew = |arguments: &[&str]| bootstrap(arguments).map(|bootstrap| bootstrap.clock_skew.as_secs());
        assert_eq!(skew(&[]), Ok(30));
        assert_eq!(skew(&["--certificate-lifetime", "10s"]), Ok(5));
        assert_eq!(skew(&["--clock-skew", "0s"]), Ok(0));
        assert_eq!(skew(&["--clock-skew", "10m"]), Ok(600));
        assert_eq!(skew(&["--clock-skew", "2m", "--certificate-lifetime", "4m"]), Ok(120));
        for (arguments, expected) in [
            (&["--clock-skew", "601s"][..], "clocks may differ by 0s to 10m"),
            (&["--clock-skew", "soon"], "--clock-skew"),
            (
                &["--clock-skew", "2m", "--certificate-lifetime", "3m"],
                "--clock-skew 2m is more than half of --certificate-lifetime, which is 3m",
            ),
        ] {
            let error = skew(arguments).unwrap_err();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn store_flag_selects_folder_or_etcd() {
        let etcd = |arguments: &[&str]| match bootstrap(arguments).unwrap().store.location {
            StoreLocation::Etcd(options) => options,
            StoreLocation::Folder(folder) => panic!("{}", folder.display()),
        };
        let options = etcd(&["--store", "etcd://127.0.0.1:2379,[::1]:2379/mesh/a/", "--state", "s"]);
        assert_eq!((options.members.len(), options.prefix.as_str()), (2, "mesh/a/"));
        let options = etcd(&["--store", "etcds://a.example:2379", "--etcd-ca", "ca.pem"]);
        assert_eq!((options.to_string().as_str(), options.prefix.as_str()), ("etcds://a.example:2379/weir", "weir/"));
        for (arguments, expected) in [
            (&["--store", "etcd://10.0.0.1:2379"][..], "use etcds://"),
            (&["--store", "etcd://127.0.0.1"], "is not HOST:PORT"),
            (&["--store", "etcds://a:1"], "goes with --etcd-ca"),
            (&["--store", "etcd://127.0.0.1:1/a b"], "the prefix `a b`"),
            (&["--store", "folder", "--state", "s"], "--state goes with"),
            (&["--store", "folder", "--etcd-ca", "ca.pem"], "go with --store etcds://"),
            (&["--store", "folder", "--init"], "--init goes with --store etcd://"),
        ] {
            let error = bootstrap(arguments).err().unwrap();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn plaintext_addresses_must_be_loopback() {
        assert!(bootstrap(&["--store", "s", "--api", "[::1]:0"]).is_ok());
        for flag in ["--api", "--xds", "--modules"] {
            let error = bootstrap(&["--store", "s", flag, "0.0.0.0:1"]).unwrap_err();
            assert!(error.contains("is not a loopback address"), "{error}");
        }
    }
}
