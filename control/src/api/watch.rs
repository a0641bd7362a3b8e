//! The change feed: server-sent events when the last revision, the files, or the state of a proxy changes. An event
//! contains the current state. A slow client misses intermediate events, never the last one.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::response::ApiError;
use crate::api::state::{ApiState, try_permit};
use crate::limits::{EVENT_DEBOUNCE, WATCH_KEEPALIVE};
use crate::task;

pub(crate) async fn watch(State(api): State<Arc<ApiState>>) -> Result<Response, ApiError> {
    let permit = try_permit(&api.permits.watchers, "too many clients watch already; try again later")?;
    let (events, receiver) = mpsc::channel::<Event>(1);
    task::spawn("change feed", async move {
        let _permit = permit;
        let (mut revisions, mut proxies) = (api.publisher.subscribe(), api.proxies.subscribe());
        revisions.mark_changed();
        proxies.mark_changed();
        loop {
            let (name, data) = tokio::select! {
                Ok(()) = revisions.changed() => {
                    let sources = *revisions.borrow_and_update();
                    ("revision", json!({"revision": sources.revision, "fileChanges": sources.file_changes}))
                }
                Ok(()) = proxies.changed() => {
                    proxies.mark_unchanged();
                    let generation = api.snapshot_cache.current().generation;
                    let all = api.proxies.all();
                    let up_to_date = all.iter().filter(|proxy| proxy.is_synced(generation)).count();
                    ("proxies", json!({"generation": generation, "proxies": all.len(), "upToDate": up_to_date}))
                }
                () = events.closed() => return,
            };
            if events.send(Event::default().event(name).data(data.to_string())).await.is_err() {
                return;
            }
            tokio::time::sleep(EVENT_DEBOUNCE).await;
        }
    });
    let events = ReceiverStream::new(receiver).map(Ok::<_, Infallible>);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(WATCH_KEEPALIVE)).into_response())
}
