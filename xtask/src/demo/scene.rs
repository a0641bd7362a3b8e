//! What the demo shows: commands that a person can type, each with what it must bring about.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use weir_sdk::testing::http::{self, Message};

use super::stage::Stage;
use crate::progress::{Clock, say};
use crate::tools;

/// The key in the example's files, and the one that the demo puts in its place.
const KEY: &str = "let-me-in";
const NEW_KEY: &str = "open-sesame";

/// One command and what it must bring about.
pub(crate) struct Scene {
    /// What is about to be seen.
    title: &'static str,
    act: Act,
}

enum Act {
    /// A request, and the status and a part of the text that must come back.
    Ask { path: &'static str, key: Option<&'static str>, user: Option<&'static str>, status: u16, text: &'static str },
    /// What the proxy has counted: lines that hold this.
    Count { text: &'static str },
    /// An edit, and the request that must be answered differently by it.
    Edit { file: &'static str, from: &'static str, to: &'static str, until: Until },
    /// `weir-proxy validate` must find this.
    Validate { text: &'static str },
}

/// How it is known that the proxy has seen an edit.
enum Until {
    /// The answer to a request with this key has this status.
    Answer { key: &'static str, status: u16 },
    /// The answer to a request of this user holds this.
    Text { user: &'static str, text: &'static str },
    /// The log of the proxy holds this.
    Logged(&'static str),
}

/// All scenes, in order.
pub(crate) fn all() -> Vec<Scene> {
    let ask = |title, path, key, status, text| {
        let act = Act::Ask { path, key, user: None, status, text };
        Scene { title, act }
    };
    let of_user = |title, user, text| {
        let act = Act::Ask { path: "/", key: Some(KEY), user: Some(user), status: 200, text };
        Scene { title, act }
    };
    let edit = |title, from, to, until| Scene { title, act: Act::Edit { file: "filters.yaml", from, to, until } };
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
        ask("The third one has to wait, and is told how long.", "/report", Some(KEY), 429, "limit reports"),
        of_user("The routing filter has a tenth of the users on v2. Ada is not among them.", "ada", "from v1"),
        edit("Move the canary to a fifth.", "percent: 10", "percent: 20", Until::Text { user: "ada", text: "from v2" }),
        of_user("Ada is in the second tenth, and stays there.", "ada", "from v2"),
        of_user("Grace is not: nobody else has moved.", "grace", "from v1"),
        edit("Edit a file: another key.", KEY, NEW_KEY, Until::Answer { key: NEW_KEY, status: 200 }),
        ask("The new key passes at once.", "/", Some(NEW_KEY), 200, "hello newcomer"),
        ask("The old one does not.", "/", Some(KEY), 401, "invalid api key"),
        edit("A bad edit: a field that does not exist.", "phase:", "fase:", Until::Logged("fase")),
        Scene { title: "It is refused, with the place and a hint.", act: Act::Validate { text: "fase" } },
        ask("What served before goes on serving.", "/", Some(NEW_KEY), 200, "hello newcomer"),
        edit("Repair it.", "fase:", "phase:", Until::Answer { key: NEW_KEY, status: 200 }),
        Scene { title: "The telemetry filter has counted it all.", act: Act::Count { text: "requests_total" } },
    ]
}

impl Scene {
    /// Prints the command, runs it, prints what came back, and checks it.
    pub(crate) fn play(&self, stage: &Stage) -> Result<()> {
        let command = self.command(stage)?;
        say(&format!("\n# {}\n$ {command}", self.title));
        match &self.act {
            Act::Ask { path, key, user, status, text } => {
                let shown = match tools::is_present("curl") {
                    true => output_of(&command)?,
                    false => in_words(&ask(stage, path, *key, *user)?),
                };
                say(shown.trim_end());
                let right = shown.contains(&format!(" {status}")) && shown.contains(text);
                ensure!(right, "expected {status} and `{text}`; the log of the proxy:\n{}", stage.proxy().log());
            }
            Act::Edit { file, from, to, until } => {
                let path = PathBuf::from(stage.folder()).join(file);
                let before = stage.proxy().log().len();
                let clock = Clock::start();
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                ensure!(text.contains(from), "{} does not hold `{from}`", path.display());
                output_of(&command)?;
                stage.proxy().wait_until(self.title, |_| until.is_met(stage, before))?;
                say(&format!("({to} was seen after {})", clock.elapsed()));
            }
            Act::Count { text } => {
                let page = stage.proxy().page("/stats/prometheus")?.text();
                let lines = page.lines().filter(|line| line.contains(text) && line.contains("telemetry"));
                let shown: String = lines.map(|line| format!("{line}\n")).collect();
                say(shown.trim_end());
                ensure!(shown.contains("class=\"4xx\""), "expected refusals among `{text}`:\n{page}");
            }
            Act::Validate { text } => {
                let shown = output_of(&command)?;
                say(shown.trim_end());
                ensure!(shown.contains(text), "expected `{text}`");
            }
        }
        Ok(())
    }

    fn command(&self, stage: &Stage) -> Result<String> {
        Ok(match &self.act {
            Act::Ask { path, key, user, .. } => {
                let key = key.map(|key| format!("-H 'x-api-key: {key}' ")).unwrap_or_default();
                let user = user.map(|user| format!("-H 'x-user: {user}' ")).unwrap_or_default();
                format!("curl -si {key}{user}http://{}{path}", stage.address())
            }
            Act::Count { text } => {
                let admin = stage.proxy().admin();
                format!("curl -s http://{admin}/stats/prometheus | grep {text} | grep telemetry")
            }
            Act::Edit { file, from, to, .. } => format!("sed -i 's/{from}/{to}/' {}/{file}", stage.folder()),
            Act::Validate { .. } => format!("{} validate {}", Stage::binary()?, stage.folder()),
        })
    }
}

impl Until {
    fn is_met(&self, stage: &Stage, logged_before: usize) -> bool {
        match self {
            Self::Answer { key, status } => {
                ask(stage, "/", Some(key), None).is_ok_and(|answer| answer.status() == *status)
            }
            Self::Text { user, text } => {
                ask(stage, "/", Some(KEY), Some(user)).is_ok_and(|answer| answer.text().contains(text))
            }
            Self::Logged(text) => stage.proxy().log().get(logged_before..).is_some_and(|log| log.contains(text)),
        }
    }
}

fn ask(stage: &Stage, path: &str, key: Option<&str>, user: Option<&str>) -> Result<Message> {
    let request = Message::request("GET", path);
    let request = key.into_iter().fold(request, |request, key| request.with_header("x-api-key", key));
    let request = user.into_iter().fold(request, |request, user| request.with_header("x-user", user));
    Ok(http::send(stage.address(), &request)?)
}

/// As `curl -i` would print it.
fn in_words(answer: &Message) -> String {
    let line = |(name, value): &(String, Vec<u8>)| format!("{name}: {}\n", String::from_utf8_lossy(value));
    let headers: String = answer.headers.iter().map(line).collect();
    format!("{}\n{headers}\n{}", answer.start, answer.text())
}

/// What a command prints, in any case: `validate` ends with 1 when it has found something.
fn output_of(command: &str) -> Result<String> {
    let output = Command::new("sh").args(["-c", command]).output().with_context(|| command.to_owned())?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).replace('\r', ""))
}
