//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Talks to the control plane of a weir mesh.
#[derive(Debug, Parser)]
#[command(name = "weir", version)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the control plane is, and who asks.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// Control API [default: $WEIR_API, or http://127.0.0.1:15080]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) api: Option<String>,
    /// Who signs the certificate of an https:// API (PEM) [default: $WEIR_API_CA, or those that the system believes]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) api_ca: Option<PathBuf>,
    /// File that holds the token [default: $WEIR_TOKEN itself, $WEIR_TOKEN_FILE, or what weir-control made here]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// How answers look
    #[arg(short = 'o', long, global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Adds or replaces the resources of files: all of them, or none
    Apply(FilesAndMessage),
    /// Says what `apply` would do, to objects and to each proxy
    Diff(Files),
    /// Shows objects
    Get {
        /// HTTPRoute, Service, Filter, …; all kinds when left out
        kind: Option<String>,
        /// One object; needs a kind
        name: Option<String>,
        /// Its namespace [default: all, or `default` for one object]
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Deletes one object, or everything that files name
    Delete {
        /// HTTPRoute, Service, Filter, …
        #[arg(required_unless_present = "files", requires = "name")]
        kind: Option<String>,
        /// The object
        name: Option<String>,
        /// Its namespace
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// Files or folders whose objects are deleted
        #[arg(short = 'f', long = "file", value_name = "PATH", conflicts_with = "kind")]
        files: Vec<PathBuf>,
        /// Why; kept with the revision
        #[arg(short, long)]
        message: Option<String>,
    },
    /// Lists revisions, or shows what one changed
    Revisions {
        /// This one
        id: Option<u64>,
    },
    /// Makes everything as it was after a revision
    Rollback {
        /// That revision
        id: u64,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
        /// Why; kept with the revision
        #[arg(short, long)]
        message: Option<String>,
    },
    /// Shows objects with what became of them, and every proxy
    Status,
    /// Shows every connected proxy
    Proxies,
    /// Checks files without a control plane
    Validate(Files),
    /// Shows the certificate authority, or begins the change to another root
    Authority {
        #[command(subcommand)]
        command: Option<AuthorityCommand>,
    },
    /// Bundles of filters: makes, signs, pushes, lists and deletes them
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Makes, lists and revokes tokens
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Args)]
pub(crate) struct Files {
    /// Files or folders of resources; `-` is standard input
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FilesAndMessage {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Why; kept with the revision
    #[arg(short, long)]
    pub(crate) message: Option<String>,
    /// Come back when every connected proxy has it, for 30 seconds at most
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityCommand {
    /// A new root: believed at once, signs after one lifetime of a certificate
    Rotate,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Puts a manifest into a module, so that it can be signed and pushed
    Pack {
        /// The module
        module: PathBuf,
        /// What it says of itself, in YAML
        #[arg(short, long, value_name = "FILE")]
        manifest: PathBuf,
        /// Where the bundle goes [default: NAME-VERSION.wasm]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Makes a key to sign with: KEY, which stays with you, and KEY.pub, for --trusted-signers
    Key {
        /// The file of the key
        key: PathBuf,
    },
    /// Signs a bundle, in its own file
    Sign {
        /// The bundle
        bundle: PathBuf,
        /// The key: Ed25519, PEM
        #[arg(short, long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Shows what a bundle says of itself, and who signed it
    Inspect {
        /// The bundle
        bundle: PathBuf,
    },
    /// Pushes a bundle: it is compiled, started and tried with its example before it is kept
    Push {
        /// The bundle, or a module with --manifest: a file, or what a registry has, oci://REGISTRY/REPOSITORY:TAG
        bundle: PathBuf,
        /// What it says of itself, in YAML; put into it first
        #[arg(short, long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// Signs it first, with this key
        #[arg(short, long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Only say whether it would be kept
        #[arg(long)]
        dry_run: bool,
    },
    /// Lists bundles, with the Filters that name them
    List,
    /// Deletes a bundle that no Filter names
    Delete {
        /// Its name
        name: String,
        /// Which one of that name
        version: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a token and prints it, this once
    Make {
        /// Whose it is
        name: String,
        /// proxy, viewer, editor or admin
        #[arg(long, default_value = "editor")]
        role: String,
        /// A namespace that it may change; may be repeated [default: all]
        #[arg(long)]
        namespace: Vec<String>,
        /// The workload that it makes a proxy be, with --role proxy: NAMESPACE/ACCOUNT
        #[arg(long)]
        workload: Option<String>,
        /// Seconds until it ends [default: never]
        #[arg(long)]
        expires_in_seconds: Option<u32>,
    },
    /// Lists tokens
    List,
    /// Ends a token
    Revoke {
        /// Its id
        id: String,
    },
}
