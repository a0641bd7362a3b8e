//! `/ready`, `/drain`, `/quit`, `/logging`: whether the process serves, and what it is told.

use http::StatusCode;
use tracing::info;
use tracing::level_filters::LevelFilter;

use crate::admin::server::{Page, text};
use crate::admin::{Admin, Ending};

/// 200 once a configuration serves; 503 before, and while draining, so that nobody sends more.
pub(super) fn ready(admin: &Admin) -> Page {
    if admin.drain.is_draining() {
        text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if admin.status.is_ready() {
        text(StatusCode::OK, "ready\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, "no configuration serves yet\n")
    }
}

/// Ends the process when what is in flight has ended.
pub(super) fn drain(admin: &Admin) -> Page {
    end(admin, Ending::Gracefully, "draining\n")
}

/// Ends the process now.
pub(super) fn quit(admin: &Admin) -> Page {
    end(admin, Ending::Now, "ending\n")
}

fn end(admin: &Admin, ending: Ending, answer: &str) -> Page {
    info!(?ending, "asked to end on the admin page");
    // Full means that the same has been asked for just now.
    let _ = admin.endings.try_send(ending);
    text(StatusCode::OK, answer)
}

/// Changes how much is logged.
pub(super) fn logging(admin: &Admin, query: &str) -> Page {
    let level = query.split('&').find_map(|pair| pair.strip_prefix("level="));
    let Some(Ok(level)) = level.map(str::parse::<LevelFilter>) else {
        return text(StatusCode::BAD_REQUEST, "say level=off, error, warn, info, debug or trace\n");
    };
    let changed = admin.log_level.as_ref().map_or_else(|| Err("there is no log".to_owned()), |log| log.set(level));
    match changed {
        Ok(()) => text(StatusCode::OK, &format!("level is {level}\n")),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}
