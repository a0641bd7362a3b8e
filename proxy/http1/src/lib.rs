//! An HTTP/1 codec for a proxy (RFC 9112): bytes in, heads and body events out, and the reverse. No part but [`io`]
//! performs IO.
//!
//! ```text
//!  bytes ─► HeadDecoder ─► RequestHead | ResponseHead ─► BodyDecoder ─► data … trailers, end
//!           BodyEncoder ◄─ data, trailers                encode::request_head | encode::response_head ◄─ head
//! ```
//!
//! The decoder has one reading of each message, or rejects it with a named [`Rejection`]: no bare CR or LF, no folded
//! field, no second or odd length, no transfer coding but one `chunked`, no `chunked` in HTTP/1.0. Every part has a
//! bound ([`Limits`]). `docs/http1.md` lists what is accepted, rejected, changed and forwarded.

// From the top: each module imports only modules below it. The blank lines keep rustfmt from sorting them.

// Byte streams: reads into and writes from buffers of a pool.
pub mod io;

// Heads and bodies to bytes.
pub mod encode;

// Bodies from bytes: a length, chunks with trailers, or until the connection closes.
mod body;

// Heads from bytes: request line or status line, fields, and the framing that follows.
mod head;

// Field lines to a header map.
mod fields;

// Names of fields as sent.
mod sent_names;

// Framing and persistence by the fields of a head.
mod framing;

// The end of a section of lines.
mod lines;

// Bounds of one message.
mod limits;

// Names, statuses and texts of rejections.
mod rejection;

pub use body::{BodyDecoder, BodyEvent, belongs_in_head};
pub use framing::{BodyLength, has_token};
pub use head::{HeadDecoder, RequestHead, RequestLine, ResponseHead};
pub use limits::Limits;
pub use rejection::Rejection;
pub use sent_names::SentNames;
