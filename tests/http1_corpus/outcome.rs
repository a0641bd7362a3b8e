//! The result of one case at one proxy, and its text in the corpus's notation.

use std::net::SocketAddr;

use crate::case::{Case, Kind};
use crate::notation::escape;
use crate::origin::SECOND;
use crate::replies::{Reply, Status};
use crate::strict::Message;

/// The largest number of responses that an outcome contains.
const MAX_REPLIES: usize = 20;

/// The result of one case at one proxy.
pub(crate) struct Exchange {
    /// The responses at the client.
    pub(crate) replies: Vec<Reply>,
    pub(crate) is_closed: bool,
    /// The events after the first response of a case of responses.
    pub(crate) then: String,
    /// The messages at the origin.
    pub(crate) messages: Vec<Message>,
    /// The number of the lane that ran the case.
    pub(crate) lane: usize,
    /// The origin of that lane.
    pub(crate) origin: SocketAddr,
}

impl Exchange {
    /// Returns the outcome of a case. `details` are those of Weir's access log.
    pub(crate) fn outcome(&self, case: &Case, details: &[String]) -> String {
        let details: String = details.iter().map(|detail| format!(" [{detail}]")).collect();
        match case.kind {
            Kind::Requests => self.outcome_of_requests(case, &details),
            Kind::Responses => self.outcome_of_response(case, &details),
        }
    }

    fn outcome_of_requests(&self, case: &Case, details: &str) -> String {
        let statuses: Vec<String> = self.replies.iter().map(status_text).collect();
        let mut text = text_or_dash(&statuses.join(" ")) + details;
        for message in &self.messages {
            text.push_str(" | ");
            text.push_str(&message_text(message, &case.show));
        }
        text + if self.is_closed { " closed" } else { " open" }
    }

    fn outcome_of_response(&self, case: &Case, details: &str) -> String {
        let mut parts: Vec<String> =
            self.replies.iter().take(MAX_REPLIES).map(|reply| reply_text(reply, &case.show)).collect();
        if let [rest @ .., last] = parts.as_slice()
            && rest.len() >= 2
            && rest.iter().all(|part| *part == rest[0])
        {
            parts = vec![format!("{}x {}", rest.len(), rest[0]), last.clone()];
        }
        let mut text = text_or_dash(&parts.join(", ")) + details;
        let first: Vec<&Message> = self.messages.iter().filter(|message| message.target != SECOND).collect();
        if first.len() != 1 {
            text.push_str(&format!(" | sent x{}", first.len()));
        }
        let connection = |target: &[u8]| {
            self.messages.iter().rfind(|message| message.target == target).map(|message| message.connection)
        };
        let is_reused = connection(b"/first").is_some() && connection(b"/first") == connection(SECOND);
        format!("{text} then {}{}", self.then, if is_reused { " reused" } else { "" })
    }
}

fn text_or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn status_text(reply: &Reply) -> String {
    let bad = reply.bad.map(|bad| format!("({bad})")).unwrap_or_default();
    let is_cut = !reply.is_complete && matches!(reply.status, Status::Code(_));
    format!("{}{bad}{}", reply.status, if is_cut { " cut" } else { "" })
}

fn message_text(message: &Message, show: &[String]) -> String {
    let mut text = format!("{} {}", escape(&message.method), escape(&message.target));
    if !message.is_cut {
        text.push_str(&format!(" {}", message.body));
    }
    if message.trailers > 0 {
        text.push_str(&format!(" +{}", message.trailers));
    }
    for name in show {
        text.push_str(&shown(name, &message.values(name)));
    }
    if !message.marks.is_empty() {
        let mut marks: Vec<&str> = Vec::new();
        for mark in &message.marks {
            if !marks.contains(mark) {
                marks.push(mark);
            }
        }
        text.push_str(&format!(" AMBIGUOUS({})", marks.join(",")));
    }
    if message.is_cut {
        text.push_str(" cut");
    }
    text
}

fn reply_text(reply: &Reply, show: &[String]) -> String {
    let mut text = reply.status.to_string();
    let is_from_proxy = matches!(reply.status, Status::Code(502..=504));
    if !is_from_proxy && !matches!(reply.status, Status::Code(..200)) {
        text.push_str(&format!(" {}", reply.body));
    }
    if reply.trailers > 0 {
        text.push_str(&format!(" +{}", reply.trailers));
    }
    for name in show.iter().filter(|_| !is_from_proxy) {
        match name.as_str() {
            "reason" => text.push_str(&format!(" reason={}", escape(&reply.reason))),
            name => text.push_str(&shown(name, &reply.values(name))),
        }
    }
    if let Some(bad) = reply.bad {
        text.push_str(&format!(" ({bad})"));
    }
    if !reply.is_complete {
        text.push_str(" cut");
    }
    text
}

/// Returns ` NAME=VALUES`.
fn shown(name: &str, values: &[&[u8]]) -> String {
    let values: Vec<String> = values.iter().map(|value| escape(value)).collect();
    let text = if values.is_empty() { "-".to_owned() } else { values.join(",") };
    format!(" {name}={text}")
}
