//! The steps of the demo: commands that a user can type, each with its expected result.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use weir_sdk::testing::http::{self, Message};

use super::env::DemoEnv;
use crate::progress::{Stopwatch, print};
use crate::tools;

/// The key in the example's files, and its replacement.
const KEY: &str = "let-me-in";
const NEW_KEY: &str = "open-sesame";

/// One command and its expected result.
pub(crate) struct DemoStep {
    /// The line that is printed before the command.
    title: &'static str,
    kind: StepKind,
}

enum StepKind {
    /// A request, with the expected status and a part of the expected text.
    Ask { path: &'static str, key: Option<&'static str>, user: Option<&'static str>, status: u16, text: &'static str },
    /// The proxy's metrics: the lines that contain `text`.
    Count { text: &'static str },
    /// An edit, and the condition that shows its effect.
    Edit { file: &'static str, from: &'static str, to: &'static str, until: WaitFor },
    /// `weir-proxy validate`, with a part of its expected output.
    Validate { text: &'static str },
}

/// The condition that shows that the proxy has applied an edit.
enum WaitFor {
    /// The response to a request with this key has this status.
    Answer { key: &'static str, status: u16 },
    /// The response to a request of this user contains this text.
    Text { user: &'static str, text: &'static str },
    /// The proxy's log contains this text.
    Logged(&'static str),
}

/// Returns all steps, in order.
pub(crate) fn all() -> Vec<DemoStep> {
    let ask = |title, path, key, status, text| {
        let kind = StepKind::Ask { path, key, user: None, status, text };
        DemoStep { title, kind }
    };
    let of_user = |title, user, text| {
        let kind = StepKind::Ask { path: "/", key: Some(KEY), user: Some(user), status: 200, text };
        DemoStep { title, kind }
    };
    let edit =
        |title, from, to, until| DemoStep { title, kind: StepKind::Edit { file: "filters.yaml", from, to, until } };
    vec![
        ask("Without a key the auth filter refuses.", "/", None, 401, "missing credentials"),
        ask("With the key it passes, and the origin learns who it is.", "/", Some(KEY), 200, "hello newcomer from v1"),
        ask("A deny rule wins over any key, and is named.", "/admin", Some(KEY), 403, "deny-admin"),
        ask("An allow rule may ask nobody.", "/healthz", None, 200, "hello somebody"),
        ask(
            "The rate-limit filter lets two reports an hour pass.",
            "/report",
            Some(KEY),
            200,
            "ratelimit-remaining: 1",
        ),
        ask("The second one.", "/report", Some(KEY), 200, "ratelimit-remaining: 0"),
        ask("The third one is limited; the response has the time to wait.", "/report", Some(KEY), 429, "limit reports"),
        of_user("The routing filter has a tenth of the users on v2. Ada is not among them.", "ada", "from v1"),
        edit(
            "Move the canary to a fifth.",
            "percent: 10",
            "percent: 20",
            WaitFor::Text { user: "ada", text: "from v2" },
        ),
        of_user("Ada is in the second tenth, and stays there.", "ada", "from v2"),
        of_user("Grace is not: nobody else has moved.", "grace", "from v1"),
        edit("Edit a file: another key.", KEY, NEW_KEY, WaitFor::Answer { key: NEW_KEY, status: 200 }),
        ask("The new key passes at once.", "/", Some(NEW_KEY), 200, "hello newcomer"),
        ask("The old one does not.", "/", Some(KEY), 401, "invalid api key"),
        edit("A bad edit: a field that does not exist.", "phase:", "fase:", WaitFor::Logged("fase")),
        DemoStep { title: "It is rejected, with its position and a hint.", kind: StepKind::Validate { text: "fase" } },
        ask("What served before goes on serving.", "/", Some(NEW_KEY), 200, "hello newcomer"),
        edit("Repair it.", "fase:", "phase:", WaitFor::Answer { key: NEW_KEY, status: 200 }),
        DemoStep {
            title: "The telemetry filter has counted it all.",
            kind: StepKind::Count { text: "requests_total" },
        },
    ]
}

impl DemoStep {
    /// Prints the command, runs it, prints its output, and checks it.
    pub(crate) fn run(&self, env: &DemoEnv) -> Result<()> {
        let command = self.command(env)?;
        print(&format!("\n# {}\n$ {command}", self.title));
        match &self.kind {
            StepKind::Ask { path, key, user, status, text } => {
                let shown = match tools::is_present("curl") {
                    true => output_of(&command)?,
                    false => format_response(&send_request(env, path, *key, *user)?),
                };
                print(shown.trim_end());
                let right = shown.contains(&format!(" {status}")) && shown.contains(text);
                ensure!(right, "expected {status} and `{text}`; the log of the proxy:\n{}", env.proxy().log());
            }
            StepKind::Edit { file, from, to, until } => {
                let path = PathBuf::from(env.folder()).join(file);
                let before = env.proxy().log().len();
                let clock = Stopwatch::start();
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                ensure!(text.contains(from), "{} does not hold `{from}`", path.display());
                output_of(&command)?;
                env.proxy().wait_until(self.title, |_| until.is_met(env, before))?;
                print(&format!("({to} was seen after {})", clock.elapsed()));
            }
            StepKind::Count { text } => {
                let page = env.proxy().page("/stats/prometheus")?.text();
                let lines = page.lines().filter(|line| line.contains(text) && line.contains("telemetry"));
                let shown: String = lines.map(|line| format!("{line}\n")).collect();
                print(shown.trim_end());
                ensure!(shown.contains("response_code_class=\"4xx\""), "expected refusals among `{text}`:\n{page}");
            }
            StepKind::Validate { text } => {
                let shown = output_of(&command)?;
                print(shown.trim_end());
                ensure!(shown.contains(text), "expected `{text}`");
            }
        }
        Ok(())
    }

    fn command(&self, env: &DemoEnv) -> Result<String> {
        Ok(match &self.kind {
            StepKind::Ask { path, key, user, .. } => {
                let key = key.map(|key| format!("-H 'x-api-key: {key}' ")).unwrap_or_default();
                let user = user.map(|user| format!("-H 'x-user: {user}' ")).unwrap_or_default();
                format!("curl -si {key}{user}http://{}{path}", env.address())
            }
            StepKind::Count { text } => {
                let admin = env.proxy().admin();
                format!("curl -s http://{admin}/stats/prometheus | grep {text} | grep telemetry")
            }
            StepKind::Edit { file, from, to, .. } => format!("sed -i 's/{from}/{to}/' {}/{file}", env.folder()),
            StepKind::Validate { .. } => format!("{} validate {}", DemoEnv::binary()?, env.folder()),
        })
    }
}

impl WaitFor {
    fn is_met(&self, env: &DemoEnv, logged_before: usize) -> bool {
        match self {
            Self::Answer { key, status } => {
                send_request(env, "/", Some(key), None).is_ok_and(|answer| answer.status() == *status)
            }
            Self::Text { user, text } => {
                send_request(env, "/", Some(KEY), Some(user)).is_ok_and(|answer| answer.text().contains(text))
            }
            Self::Logged(text) => env.proxy().log().get(logged_before..).is_some_and(|log| log.contains(text)),
        }
    }
}

fn send_request(env: &DemoEnv, path: &str, key: Option<&str>, user: Option<&str>) -> Result<Message> {
    let request = Message::request("GET", path);
    let request = key.into_iter().fold(request, |request, key| request.with_header("x-api-key", key));
    let request = user.into_iter().fold(request, |request, user| request.with_header("x-user", user));
    Ok(http::send(env.address(), &request)?)
}

/// Formats a response like `curl -i`.
fn format_response(answer: &Message) -> String {
    let line = |(name, value): &(String, Vec<u8>)| format!("{name}: {}\n", String::from_utf8_lossy(value));
    let headers: String = answer.headers.iter().map(line).collect();
    format!("{}\n{headers}\n{}", answer.start, answer.text())
}

/// Returns the output of a command, whatever its exit code: `validate` exits with 1 when it finds a fault.
fn output_of(command: &str) -> Result<String> {
    let output = Command::new("sh").args(["-c", command]).output().with_context(|| command.to_owned())?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).replace('\r', ""))
}
