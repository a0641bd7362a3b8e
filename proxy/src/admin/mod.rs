//! The admin server: pages for operators, on loopback only. Started by `app`, runs on the main runtime, never touches a
//! worker.
//!
//! | page | method | |
//! |---|---|---|
//! | `/ready` | GET | 200 once a configuration serves, 503 before that, while draining, and without the certificate that its mutual TLS needs |
//! | `/stats/prometheus` | GET | metrics |
//! | `/config_dump` | GET | the active configuration and the last rejection |
//! | `/clusters`, `/listeners`, `/plugins` | GET | state of each |
//! | `/plugins/reset?name=` | POST | closes the breakers of a plugin |
//! | `/drain`, `/quit` | POST | graceful shutdown; immediate shutdown |
//! | `/logging?level=` | POST | changes the level of the process log |
//!
//! `server` dispatches to the pages; the pages read `state` and return a `response`.

mod server;
mod lifecycle;
mod config_dump;
mod resources;
mod prometheus;
mod response;
mod state;

pub(crate) use server::AdminServer;
pub(crate) use state::{AdminState, ShutdownMode};
