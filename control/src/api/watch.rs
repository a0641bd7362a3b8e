//! The change feed: server-sent events, one whenever the last revision, the files or what a proxy says has changed. An
//! event says that there is something new and where it stands; whoever is slow misses steps and never the last one.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::Api;
use crate::api::answer::Failure;
use crate::limits::{WATCH_KEEPALIVE, WATCH_PAUSE};
use crate::task;

pub(crate) async fn watch(State(api): State<Arc<Api>>) -> Result<Response, Failure> {
    let place = Arc::clone(&api.watchers).try_acquire_owned();
    let place = place.map_err(|_| Failure::busy("too many follow changes already"))?;
    let (events, receiver) = mpsc::channel::<Event>(1);
    task::spawn("change feed", async move {
        let _place = place;
        let (mut revisions, mut proxies) = (api.publisher.changes(), api.book.changes());
        revisions.mark_changed();
        proxies.mark_changed();
        loop {
            let event = tokio::select! {
                Ok(()) = revisions.changed() => {
                    let (revision, file_changes) = *revisions.borrow_and_update();
                    Event::default().event("revision").data(json!({"revision": revision, "fileChanges": file_changes}).to_string())
                }
                Ok(()) = proxies.changed() => {
                    proxies.mark_unchanged();
                    let generation = api.board.told().generation;
                    let all = api.book.all();
                    let up_to_date = all.iter().filter(|proxy| proxy.is_up_to_date(generation)).count();
                    let counts = json!({"generation": generation, "proxies": all.len(), "upToDate": up_to_date});
                    Event::default().event("proxies").data(counts.to_string())
                }
                () = events.closed() => return,
            };
            if events.send(event).await.is_err() {
                return;
            }
            tokio::time::sleep(WATCH_PAUSE).await;
        }
    });
    let events = ReceiverStream::new(receiver).map(Ok::<_, Infallible>);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(WATCH_KEEPALIVE)).into_response())
}
