//! A backup of the store, streamed while it is read.

use std::io::{self, Write};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::warn;

use crate::api::blocking::blocking;
use crate::api::response::ApiError;
use crate::api::state::{ApiState, try_permit};
use crate::limits::{BACKUP_CHUNK_BYTES, BACKUP_QUEUE};
use crate::task;

/// Sends a backup. If the store fails meanwhile, the response ends early: a backup is complete only with its last line.
pub(crate) async fn get(State(api): State<Arc<ApiState>>) -> Result<Response, ApiError> {
    let permit = try_permit(&api.permits.backups, "another backup is being made; try again soon")?;
    let store = Arc::clone(api.publisher.store());
    let verified = Arc::clone(&store);
    blocking(move || Ok(verified.verify()?)).await?;
    let authority = api.ca.stored_file();
    let (sender, receiver) = mpsc::channel(BACKUP_QUEUE);
    task::spawn("backup", async move {
        task::blocking(move || {
            let _permit = permit;
            let mut output = ChunkSender { sender, chunk: Vec::new() };
            if let Err(error) = store.back_up(authority.as_deref(), &mut output) {
                warn!(%error, "a backup is incomplete");
                drop(output.sender.blocking_send(Err(io::Error::other(error.to_string()))));
            }
        })
        .await;
    });
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], body).into_response())
}

/// Sends what is written in chunks of about [`BACKUP_CHUNK_BYTES`]. Blocks while the client does not read.
struct ChunkSender {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
}

impl Write for ChunkSender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= BACKUP_CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
