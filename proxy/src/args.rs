//! The command line: flags and subcommands, checked and turned into what `app` runs. Called by `main`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_loader::limits::DEFAULT_COMPILE_TIMEOUT;
use weir_loader::{cache_folder, parse_compile_timeout};
use weir_model::net::is_loopback_host;
use weir_model::{GatewayDuration, ListenerName};

use crate::app::{AgentOptions, Bootstrap, CompileOptions, ConfigSourceOptions, LogFormat, ValidateOptions};
use crate::limits::{DEFAULT_DRAIN_TIMEOUT, MAX_NAME_SERVERS, MAX_NODE_BYTES, MAX_WORKERS};

/// A programmable proxy: routes HTTP and runs sandboxed Wasm filters on it.
#[derive(Debug, Parser)]
#[command(name = "weir-proxy", version, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<CommandArgs>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum CommandArgs {
    /// Checks whether a running proxy would accept these resources; exit code 1 and every reason when not
    Validate(ValidateArgs),
    /// Compiles a module into the cache (the proxy runs this as a child process)
    Compile(CompileArgs),
    /// Obtains and renews an identity for the Envoy beside it, and serves it by SDS on a socket
    Agent(AgentArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// File or folder of resources; watched
    #[arg(long, value_name = "PATH", conflicts_with = "xds")]
    config: Option<PathBuf>,
    /// Control plane to get the configuration from, in place of --config: https://ADDR, or http://ADDR on this machine;
    /// its replicas, separated by commas: the next one is tried when one does not respond
    #[arg(long, value_name = "URL", value_parser = parse_control_plane, value_delimiter = ',')]
    xds: Vec<String>,
    /// ID of this proxy at the control plane [default: the host's name]
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// File of the join token with which this proxy obtains its identity, with --xds https://
    #[arg(long, value_name = "FILE")]
    join_token_path: Option<PathBuf>,
    /// Gateway that this proxy serves, with --xds: NAMESPACE/NAME [default: every Gateway]
    #[arg(long, value_name = "NAME", value_parser = parse_gateway)]
    gateway: Option<String>,
    /// Follow the control plane of another mesh than before: its ID, from the log line that refuses it
    #[arg(long, value_name = "ID", requires = "xds")]
    accept_mesh: Option<String>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Loopback address of the admin server; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15000")]
    admin: SocketAddr,
    /// File that the bound address of the admin server is written to
    #[arg(long, value_name = "FILE")]
    admin_address_path: Option<PathBuf>,
    #[command(flatten)]
    modules: ModuleArgs,
    /// Format of the log on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormatArg,
    /// File of the access log; `-` is standard output
    #[arg(long, value_name = "PATH", default_value = "-")]
    access_log: PathBuf,
    /// Another address for a listener (namespace/gateway/listener); may be repeated
    #[arg(long, value_name = "NAME=ADDR", value_parser = parse_bind)]
    bind: Vec<(ListenerName, SocketAddr)>,
    /// Name server in place of those of /etc/resolv.conf, as 10.0.0.1:8600; up to three, separated by commas
    #[arg(long, value_name = "ADDR", value_parser = parse_name_server, value_delimiter = ',')]
    dns_server: Vec<SocketAddr>,
    /// Time for connections to close on SIGTERM [default: 25s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    drain_timeout: Option<Duration>,
}

#[derive(Debug, Args)]
struct ModuleArgs {
    /// Folder of compiled modules [default: weir in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Folder of shipped modules [default: plugins beside this program]
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Time for compiling one module, 1s to 1h; three quarters of it as CPU time [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = parse_compile_timeout)]
    compile_timeout: Option<Duration>,
}

#[derive(Debug, Args)]
struct ValidateArgs {
    /// File or folder of resources
    path: PathBuf,
    #[command(flatten)]
    modules: ModuleArgs,
}

#[derive(Debug, Args)]
struct AgentArgs {
    /// Control plane that signs, https://ADDR; its replicas, separated by commas
    #[arg(long, value_name = "URL", value_parser = parse_control_plane, value_delimiter = ',', required = true)]
    xds: Vec<String>,
    /// ID of this workload at the control plane [default: the host's name]
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// File of the join token with which it obtains its identity
    #[arg(long, value_name = "FILE")]
    join_token_path: Option<PathBuf>,
    /// Socket for the Envoy; only this user may open it
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Folder for the identity [default: weir in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Format of the log on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormatArg,
}

impl AgentArgs {
    fn options(self) -> Result<AgentOptions, String> {
        if !self.xds.iter().all(|url| url.starts_with("https:")) {
            return Err("--xds: an identity requires https://".to_owned());
        }
        Ok(AgentOptions {
            urls: self.xds,
            node: node(self.node)?,
            join_token: self.join_token_path,
            socket: self.socket,
            cache: cache_folder(self.cache)?,
            log_format: self.log_format.into(),
        })
    }
}

impl From<LogFormatArg> for LogFormat {
    fn from(format: LogFormatArg) -> Self {
        match format {
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
        }
    }
}

#[derive(Debug, Args)]
struct CompileArgs {
    /// The module; `-` is standard input
    module: PathBuf,
    /// Folder of compiled modules [default: weir in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Time for compiling it, 1s to 1h [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = parse_compile_timeout)]
    compile_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormatArg {
    Text,
    Json,
}

/// A command of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Runs a proxy.
    Run(Box<Bootstrap>),
    /// Validates resources.
    Validate(ValidateOptions),
    /// Compiles a module.
    Compile(CompileOptions),
    /// Serves an identity to an Envoy.
    Agent(AgentOptions),
}

impl CommandLine {
    /// Validates the arguments and returns their command.
    ///
    /// # Errors
    /// The fault of an argument, in one line.
    pub fn into_command(self) -> Result<Command, String> {
        Ok(match self.command {
            Some(CommandArgs::Validate(args)) => Command::Validate(ValidateOptions {
                config: args.path,
                cache: args.modules.cache()?,
                plugins: args.modules.plugins(),
                compile_timeout: args.modules.compile_timeout(),
            }),
            Some(CommandArgs::Compile(args)) => {
                let CompileArgs { module, cache, compile_timeout } = args;
                let modules = ModuleArgs { cache, plugins: None, compile_timeout };
                let compile_timeout = modules.compile_timeout();
                Command::Compile(CompileOptions { module, cache: modules.cache()?, compile_timeout })
            }
            Some(CommandArgs::Agent(args)) => Command::Agent(args.options()?),
            None => Command::Run(Box::new(self.run.bootstrap()?)),
        })
    }
}

impl RunArgs {
    fn bootstrap(self) -> Result<Bootstrap, String> {
        let is_mutual = self.xds.iter().any(|url| url.starts_with("https:"));
        if is_mutual && !self.xds.iter().all(|url| url.starts_with("https:")) {
            return Err("--xds: either all replicas of a control plane use https://, or none".to_owned());
        }
        let urls = Some(self.xds).filter(|urls| !urls.is_empty());
        let source = match (self.config, urls) {
            (Some(_), _) if self.node.is_some() => return Err("--node goes with --xds, not with --config".to_owned()),
            (Some(_), _) if self.gateway.is_some() => {
                return Err("--gateway goes with --xds, not with --config".to_owned());
            }
            _ if self.join_token_path.is_some() && !is_mutual => {
                return Err("--join-token-path goes with --xds https://".to_owned());
            }
            (None, Some(_)) if is_mutual && self.gateway.is_none() => {
                return Err("set the Gateway that this proxy serves: --gateway NAMESPACE/NAME".to_owned());
            }
            (Some(path), _) => ConfigSourceOptions::Files(path),
            (None, Some(urls)) => ConfigSourceOptions::ControlPlane {
                urls,
                node: node(self.node)?,
                gateway: self.gateway,
                join_token: self.join_token_path,
                accepted_mesh: self.accept_mesh,
            },
            (None, None) => {
                return Err("set what to serve: --config PATH (a file or a folder) or --xds URL".to_owned());
            }
        };
        let workers = self.workers.unwrap_or_else(cores);
        if workers == 0 || workers > MAX_WORKERS {
            return Err(format!("--workers {workers} is out of range: 1 to {MAX_WORKERS}"));
        }
        if !self.admin.ip().is_loopback() {
            let admin = self.admin;
            return Err(format!("--admin {admin} is not a loopback address: the admin pages have no password"));
        }
        if self.dns_server.len() > MAX_NAME_SERVERS {
            return Err(format!("--dns-server: at most {MAX_NAME_SERVERS} name servers are used"));
        }
        Ok(Bootstrap {
            source,
            workers,
            admin: self.admin,
            admin_address_path: self.admin_address_path,
            cache: self.modules.cache()?,
            plugins: self.modules.plugins(),
            compile_timeout: self.modules.compile_timeout(),
            log_format: self.log_format.into(),
            access_log: Some(self.access_log).filter(|path| path.as_os_str() != "-"),
            binds: self.bind.into_iter().collect(),
            name_servers: self.dns_server,
            drain_timeout: self.drain_timeout.unwrap_or(DEFAULT_DRAIN_TIMEOUT),
        })
    }
}

impl ModuleArgs {
    fn cache(&self) -> Result<PathBuf, String> {
        cache_folder(self.cache.clone())
    }

    fn compile_timeout(&self) -> Duration {
        self.compile_timeout.unwrap_or(DEFAULT_COMPILE_TIMEOUT)
    }

    fn plugins(&self) -> PathBuf {
        let beside = || std::env::current_exe().ok()?.parent().map(|folder| folder.join("plugins"));
        self.plugins.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("plugins"))
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS)
}

/// Returns the node ID: `name`, or the host's name. It has no white space, like the names of the control plane.
fn node(name: Option<String>) -> Result<String, String> {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).ok();
    let name = name.or_else(host).ok_or("the host has no name: set the ID of this proxy with --node ID")?;
    let is_plain = !name.is_empty() && name.len() <= MAX_NODE_BYTES && name.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain { Ok(name) } else { Err(format!("--node `{name}`: write up to {MAX_NODE_BYTES} plain characters")) }
}

fn parse_gateway(text: &str) -> Result<String, String> {
    let is_name =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace) && is_name(name) && text.len() <= MAX_NODE_BYTES => {
            Ok(text.to_owned())
        }
        _ => Err("write NAMESPACE/NAME, as in default/edge".to_owned()),
    }
}

/// Parses the URL of a control plane. Without TLS it must be on this machine.
fn parse_control_plane(text: &str) -> Result<String, String> {
    if let Some(address) = text.strip_prefix("https://") {
        let (host, port) = address.trim_end_matches('/').rsplit_once(':').unwrap_or((address, "15012"));
        let port: u16 = port.parse().map_err(|_| format!("`{port}` is no port"))?;
        let is_host =
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte));
        return if is_host { Ok(format!("https://{host}:{port}")) } else { Err(format!("`{host}` is not a host")) };
    }
    let host = text.strip_prefix("http://").and_then(|rest| rest.trim_end_matches('/').rsplit_once(':'));
    let Some((host, port)) = host else {
        return Err("write https://HOST:PORT, or http://ADDRESS:PORT as in http://127.0.0.1:15010".to_owned());
    };
    let port: u16 = port.parse().map_err(|_| format!("`{port}` is no port"))?;
    if !is_loopback_host(host) {
        return Err(format!(
            "`{host}` is not this machine: the configuration would be sent in plaintext; use 127.0.0.1 or https://"
        ));
    }
    Ok(format!("http://{host}:{port}"))
}

fn parse_bind(text: &str) -> Result<(ListenerName, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("write NAME=ADDR, as in default/shop/http=127.0.0.1:8080")?;
    let name = ListenerName::new(name).map_err(|error| error.to_string())?;
    let address = address.parse().map_err(|_| format!("`{address}` is not an address like 127.0.0.1:8080"))?;
    Ok((name, address))
}

/// Parses the address of a name server. The default port is 53.
fn parse_name_server(text: &str) -> Result<SocketAddr, String> {
    let with_port = || text.parse().ok().filter(|server: &SocketAddr| server.port() != 0);
    let server = with_port().or_else(|| Some(SocketAddr::new(text.parse().ok()?, 53)));
    server.ok_or_else(|| format!("`{text}` is not an address like 10.0.0.1, 10.0.0.1:8600 or [::1]:53"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    text.parse().map(|GatewayDuration(duration)| duration).map_err(|error| format!("{error}; {}", error.hint))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, String> {
        let arguments = std::iter::once("weir-proxy").chain(arguments.iter().copied());
        CommandLine::try_parse_from(arguments).map_err(|error| error.to_string())?.into_command()
    }

    #[test]
    fn command_line_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn flags_are_converted_to_bootstrap() {
        let arguments = [
            "--config",
            "conf",
            "--workers",
            "3",
            "--admin",
            "[::1]:0",
            "--cache",
            "/c",
            "--plugins",
            "/p",
            "--log-format",
            "json",
            "--access-log",
            "/a.log",
            "--bind",
            "default/shop/http=127.0.0.1:0",
            "--dns-server",
            "10.0.0.1,[::1]:8600",
            "--drain-timeout",
            "1m",
            "--admin-address-path",
            "/run/admin",
        ];
        let Ok(Command::Run(bootstrap)) = parse(&arguments) else { panic!("these are good flags") };
        let expected = Bootstrap {
            source: ConfigSourceOptions::Files(PathBuf::from("conf")),
            workers: 3,
            admin: "[::1]:0".parse().unwrap(),
            admin_address_path: Some(PathBuf::from("/run/admin")),
            cache: PathBuf::from("/c"),
            plugins: PathBuf::from("/p"),
            log_format: LogFormat::Json,
            access_log: Some(PathBuf::from("/a.log")),
            binds: [(ListenerName::new("default/shop/http").unwrap(), "127.0.0.1:0".parse().unwrap())].into(),
            name_servers: vec!["10.0.0.1:53".parse().unwrap(), "[::1]:8600".parse().unwrap()],
            drain_timeout: Duration::from_secs(60),
            compile_timeout: DEFAULT_COMPILE_TIMEOUT,
        };
        assert_eq!(*bootstrap, expected);
    }

    #[test]
    fn plaintext_control_plane_must_be_loopback() {
        for (url, expected) in [
            ("http://127.0.0.1:15010", "http://127.0.0.1:15010"),
            ("http://[::1]:1/", "http://[::1]:1"),
            ("http://localhost:15010", "http://localhost:15010"),
        ] {
            let Ok(Command::Run(bootstrap)) = parse(&["--xds", url, "--node", "p1"]) else { panic!("{url}") };
            let (urls, node) = (vec![expected.to_owned()], "p1".to_owned());
            assert_eq!(
                bootstrap.source,
                ConfigSourceOptions::ControlPlane { urls, node, gateway: None, join_token: None, accepted_mesh: None }
            );
        }
    }

    #[test]
    fn invalid_flags_are_rejected_with_hint() {
        for (arguments, expected) in [
            (&[][..], "--config PATH"),
            (&["--config", "c", "--workers", "0"], "1 to 256"),
            (&["--config", "c", "--admin", "0.0.0.0:15000"], "not a loopback address"),
            (&["--config", "c", "--bind", "x"], "write NAME=ADDR"),
            (&["--config", "c", "--bind", "x=80"], "is not an address like"),
            (&["--config", "c", "--dns-server", "ns.example"], "is not an address like 10.0.0.1, 10.0.0.1:8600"),
            (&["--config", "c", "--dns-server", "10.0.0.1:0"], "is not an address like"),
            (&["--config", "c", "--dns-server", "::1,::2,::3,::4"], "at most 3 name servers"),
            (&["--config", "c", "--drain-timeout", "5"], "write whole numbers with"),
            (&["--confog", "c"], "--config"),
            (&["--config", "c", "--xds", "http://127.0.0.1:1"], "cannot be used with"),
            (&["--config", "c", "--node", "n"], "--xds"),
            (&["--xds", "http://127.0.0.1:1", "--gateway", "edge"], "NAMESPACE/NAME"),
            (&["--config", "c", "--gateway", "a/b"], "--gateway"),
            (&["--xds", "127.0.0.1:15010"], "write https://HOST:PORT, or http://ADDRESS:PORT"),
            (&["--xds", "https://127.0.0.1:15012"], "set the Gateway that this proxy serves"),
            (&["--xds", "https://127.0.0.1:x", "--gateway", "a/b"], "is no port"),
            (&["--xds", "https://a b", "--gateway", "a/b"], "is not a host"),
            (&["--xds", "http://127.0.0.1:1", "--join-token-path", "t"], "goes with --xds https://"),
            (&["--xds", "http://10.0.0.1:15010"], "is not this machine"),
            (&["--xds", "http://127.0.0.1:x"], "is no port"),
            (&["--xds", "https://a:1,http://127.0.0.1:1", "--gateway", "a/b"], "use https://, or none"),
            (&["--xds", "http://127.0.0.1:1", "--node", "a b"], "plain characters"),
            (&["validate"], "<PATH>"),
            (&["--config", "a", "--compile-timeout", "0s"], "1s to 1h"),
            (&["--config", "a", "--compile-timeout", "2h"], "1s to 1h"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn subcommands_are_converted_to_options() {
        let Ok(Command::Validate(options)) = parse(&["validate", "conf", "--cache", "/c"]) else { panic!("valid") };
        assert_eq!((options.config, options.cache), (PathBuf::from("conf"), PathBuf::from("/c")));
        let compile = ["compile", "--cache", "/c", "--compile-timeout", "5m", "-"];
        let Ok(Command::Compile(options)) = parse(&compile) else { panic!("valid") };
        assert_eq!((options.module, options.cache), (PathBuf::from("-"), PathBuf::from("/c")));
        assert_eq!(options.compile_timeout, Duration::from_secs(300));
    }
}
