//! The command line of `weir`. The doc comments are its help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_model::GatewayDuration;

/// Talks to the control plane of a weir mesh.
#[derive(Debug, Parser)]
#[command(name = "weir", version)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The control plane's address, the credentials, and the output format.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    /// Control API [default: $WEIR_API, or http://127.0.0.1:15080]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) api: Option<String>,
    /// CA of the certificate of an https:// API (PEM) [default: $WEIR_API_CA, or the system's roots]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) api_ca: Option<PathBuf>,
    /// File with the token [default: $WEIR_TOKEN itself, $WEIR_TOKEN_FILE, or the first token of a weir-control here]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Output format
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
    Apply(ApplyArgs),
    /// Shows what `apply` would change, in objects and in each proxy
    Diff(FileArgs),
    /// Shows objects
    Get {
        /// HTTPRoute, ServiceEntry, Filter, …; all kinds when left out
        kind: Option<String>,
        /// One object; needs a kind
        name: Option<String>,
        /// Namespace [default: all, or `default` for one object]
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Deletes one object, or everything that files name
    Delete {
        /// HTTPRoute, ServiceEntry, Filter, …
        #[arg(required_unless_present = "files", requires = "name")]
        kind: Option<String>,
        /// Name of the object
        name: Option<String>,
        /// Namespace
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// Files or folders whose objects are deleted
        #[arg(short = 'f', long = "file", value_name = "PATH", conflicts_with = "kind")]
        files: Vec<PathBuf>,
        /// Delete although it removes more than half, and at least 10, of the listeners or clusters
        #[arg(long)]
        allow_shrink: bool,
        /// Reason, stored with the revision
        #[arg(short, long)]
        message: Option<String>,
    },
    /// Lists revisions, or shows the changes of one
    #[command(alias = "revisions")]
    History {
        /// Number of the revision
        revision: Option<u64>,
    },
    /// Restores all objects to an earlier revision
    Rollback {
        /// Number of the revision
        #[arg(long, value_name = "REVISION", required_unless_present = "revision")]
        to: Option<u64>,
        /// Number of the revision, without `--to`: the syntax of the last version
        #[arg(hide = true, conflicts_with = "to")]
        revision: Option<u64>,
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
        /// Restore although it removes more than half, and at least 10, of the listeners or clusters
        #[arg(long)]
        allow_shrink: bool,
        /// Reason, stored with the revision
        #[arg(short, long)]
        message: Option<String>,
    },
    /// Writes a backup of the control plane's store, with the keys of the roots; `weir-control restore` reads it
    Backup {
        /// The file, which only this user can read
        file: PathBuf,
    },
    /// Shows the status of every object and every proxy
    Status,
    /// Shows every connected proxy
    Proxies,
    /// Checks files without a control plane
    Validate(FileArgs),
    /// Shows the certificate authority, or rotates its root
    #[command(alias = "authority")]
    Ca {
        #[command(subcommand)]
        command: Option<CaCommand>,
    },
    /// Builds, signs, pushes, lists and deletes bundles of filters
    #[command(subcommand, alias = "plugin")]
    Bundle(BundleCommand),
    /// Creates, lists and revokes tokens
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Files or folders of resources; `-` is standard input
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) files: FileArgs,
    /// Reason, stored with the revision
    #[arg(short, long)]
    pub(crate) message: Option<String>,
    /// Wait until every connected proxy serves the change, at most 30 seconds
    #[arg(long)]
    pub(crate) wait: bool,
    /// Make the change although it removes more than half, and at least 10, of the listeners or clusters
    #[arg(long)]
    pub(crate) allow_shrink: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Shows the roots and their rotation (default)
    Status,
    /// Starts a rotation: a new root is trusted at once, and signs after one certificate lifetime
    Rotate,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Puts a manifest into a module, so that it can be signed and pushed
    #[command(alias = "pack")]
    Build {
        /// The module
        module: PathBuf,
        /// The manifest, in YAML
        #[arg(short, long, value_name = "FILE")]
        manifest: PathBuf,
        /// File of the bundle [default: NAME-VERSION.wasm]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Generates a signing key: KEY, which is private, and KEY.pub, for --trusted-signers
    #[command(alias = "key")]
    Keygen {
        /// File of the private key
        key: PathBuf,
    },
    /// Signs a bundle file in place
    Sign {
        /// The bundle
        bundle: PathBuf,
        /// The key: Ed25519, PEM
        #[arg(short, long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Shows the manifest and the signers of a bundle
    Inspect {
        /// The bundle
        bundle: PathBuf,
    },
    /// Pushes a bundle. The control plane compiles it, starts it with its example, and stores it
    Push {
        /// The bundle, or a module with --manifest: a file, or oci://REGISTRY/REPOSITORY:TAG
        bundle: PathBuf,
        /// Manifest in YAML, packed into the module first
        #[arg(short, long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// Key to sign the bundle with first
        #[arg(short, long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Only check whether the bundle would be stored
        #[arg(long)]
        dry_run: bool,
    },
    /// Lists bundles, with the Filters that name them
    List,
    /// Deletes a bundle that no Filter names
    Delete {
        /// Name of the bundle
        name: String,
        /// Version of the bundle
        version: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Creates a token and prints its secret, which cannot be shown again
    #[command(alias = "make")]
    Create {
        /// Name of the owner: the author of the token's changes
        name: String,
        /// proxy, viewer, editor or admin
        #[arg(long, default_value = "editor")]
        role: String,
        /// Namespace that the token may change; may be repeated [default: all]
        #[arg(short, long)]
        namespace: Vec<String>,
        /// Workload whose certificate the token requests, with --role proxy: NAMESPACE/ACCOUNT
        #[arg(long)]
        workload: Option<String>,
        /// Time until the token expires, for example 1h30m [default: never]
        #[arg(long, value_name = "DURATION")]
        ttl: Option<GatewayDuration>,
        /// Seconds until the token expires: the syntax of the last version
        #[arg(long, hide = true, conflicts_with = "ttl")]
        expires_in_seconds: Option<u64>,
    },
    /// Lists tokens
    List,
    /// Revokes a token
    Revoke {
        /// Id of the token
        id: String,
    },
}
