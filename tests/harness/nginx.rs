//! One running nginx, whose behavior tests compare with the proxy's. `cargo xtask test` installs it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::wait::wait_until;

/// One running nginx. Dropping it kills the process.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    folder: TempDir,
}

impl Nginx {
    /// Starts nginx with the directives of its `http` block, and waits until it listens on each of `addresses`.
    ///
    /// It is one process, so that no worker outlives it.
    pub async fn start(http: &str, addresses: &[SocketAddr]) -> Self {
        let folder = tempfile::Builder::new().prefix("nginx-test-").tempdir().expect("a temporary folder");
        let config = folder.path().join("nginx.conf");
        fs::write(&config, configuration(folder.path(), http)).expect("a temporary folder can be written");
        let log = File::create(folder.path().join("error.log")).expect("a temporary folder can be written");
        let mut command = Command::new(binary());
        command.arg("-p").arg(folder.path()).arg("-e").arg(folder.path().join("error.log")).arg("-c").arg(config);
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("nginx starts");
        let mut nginx = Self { child, folder };
        for address in addresses {
            wait_until("nginx to listen", async || {
                nginx.assert_running();
                TcpStream::connect(address).await.ok().map(drop)
            })
            .await;
        }
        nginx
    }

    /// Returns everything that it has logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.path().join("error.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Kills the process, and waits until it has ended. Its addresses are free then.
    pub async fn stop(mut self) {
        self.child.kill().await.expect("a child can be killed");
    }

    fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("a child has a status");
        assert!(ended.is_none(), "nginx has ended with {ended:?}:\n{}", self.log());
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.start_kill().ok();
    }
}

/// Returns the path of nginx. `/usr/sbin` is searched too, because it is not on an ordinary user's `PATH`.
fn binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join("nginx")).find(|path| path.is_file());
    found.expect("nginx is installed: `cargo xtask test` installs it")
}

fn configuration(folder: &Path, http: &str) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {folder}/{name};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log crit;\n\
         events {{ worker_connections 1024; }}\nhttp {{\n    access_log off;\n{temporary}{http}}}\n"
    )
}
