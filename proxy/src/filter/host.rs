//! What a guest's host calls see and do: `weir_host_abi::Host` over one stream, or over none (a tick, a callout's
//! answer). The effective context decides which stream: the current one is at hand, another one of the same VM is found
//! in the slot's table. What a guest asks for is queued; nothing is called from here.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName};
use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, trace, warn};
use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::log::LogLevel;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::pairs::Pairs;
use weir_host_abi::abi::stream::StreamKind;
use weir_host_abi::host::{BufferRange, HttpCall, LocalReply as GuestReply};
use weir_host_abi::{ContextId, Host, MetricTable, Namespace, Status};

use crate::error::ProxyError;
use crate::filter::callout::CallAnswer;
use crate::filter::event::{Ask, Side};
use crate::filter::exchange::Exchange;
use crate::filter::heads::{self, Invalid, Write};
use crate::filter::mailbox::Note;
use crate::filter::properties;
use crate::filter::reply::{details_of, local_reply};
use crate::filter::slot::Slot;
use crate::filter::stream::StreamCell;
use crate::limits::{MAX_HELD_BODY_BYTES, MAX_STREAM_VALUE_BYTES, MAX_STREAM_VALUES};

/// The stream that a call is about.
pub(super) struct Current<'a> {
    pub(super) exchange: &'a mut Exchange,
    pub(super) filter: usize,
    /// Its context; the plugin context while the stream's own is being made.
    pub(super) context: ContextId,
    pub(super) cell: &'a Weak<StreamCell>,
}

/// What a call into a guest is about.
pub(super) enum About<'a> {
    /// The plugin itself: a tick.
    Plugin,
    /// A stream.
    Stream(Current<'a>),
    /// A callout's answer.
    Answer(&'a CallAnswer),
}

/// A host, lent to a VM for one call.
pub(super) struct HostView<'a> {
    slot: &'a Rc<Slot>,
    current: Option<Current<'a>>,
    answer: Option<&'a CallAnswer>,
    /// True while the stream is logged: nothing can be changed any more.
    pub(super) read_only: bool,
}

impl<'a> HostView<'a> {
    pub(super) fn new(slot: &'a Rc<Slot>, about: About<'a>) -> Self {
        let (current, answer) = match about {
            About::Plugin => (None, None),
            About::Stream(current) => (Some(current), None),
            About::Answer(answer) => (None, Some(answer)),
        };
        Self { slot, current, answer, read_only: false }
    }

    /// Does something with the exchange of a context, if it has one.
    fn with_stream<T>(&mut self, context: ContextId, act: impl FnOnce(&mut Exchange, usize) -> T) -> Option<T> {
        if let Some(current) = &mut self.current
            && (current.context == context || (current.context == ContextId::ROOT && context != ContextId::ROOT))
        {
            return Some(act(current.exchange, current.filter));
        }
        let tenant = self.slot.tenants.borrow().get(&context).cloned()?;
        if let Some(current) = &mut self.current {
            // Another filter of the same stream, in the same VM.
            if current.cell.ptr_eq(&tenant.stream) {
                return Some(act(current.exchange, tenant.filter));
            }
        }
        let stream = tenant.stream.upgrade()?;
        let mut stream = stream.try_borrow_mut().ok()?;
        let asked = stream.exchange.chain.is_asked();
        let result = act(&mut stream.exchange, tenant.filter);
        if !asked && stream.exchange.chain.is_asked() {
            self.slot.mailbox.post(tenant.stream, Note::Asked);
        }
        Some(result)
    }

    /// Queues an ask. A stream that is gone asks for nothing.
    fn ask(&mut self, context: ContextId, ask: Ask) {
        if !self.read_only {
            self.with_stream(context, |exchange, filter| exchange.chain.ask(filter, ask));
        }
    }

    /// Changes a head, or the header `name` of it; `change` says whether it did. What must not go on the wire fails the stream; the guest is told
    /// nothing, since many guests panic when a write is refused, and a header's text may come from outside.
    fn change(
        &mut self,
        context: ContextId,
        (map, name): (MapKind, Option<&[u8]>),
        change: impl FnOnce(&mut Exchange) -> Result<bool, Invalid>,
    ) {
        if self.read_only {
            debug!(plugin = %self.slot.plugin.model.name, "a filter changed a head that is gone; nothing happens");
            return;
        }
        let slot = self.slot;
        self.with_stream(context, |exchange, filter| match change(exchange) {
            Ok(false) => {}
            Ok(true) if map == MapKind::RequestHeaders => exchange.mark_request_changed(name),
            Ok(true) => {}
            Err(Invalid) => {
                let plugin = slot.plugin.model.name.to_string();
                if slot.may_complain() {
                    warn!(plugin, "a filter made a head that must not go on the wire; the stream is answered 500");
                }
                exchange.chain.ask(filter, Ask::Refuse(ProxyError::FilterOutput { plugin }));
            }
        });
    }

    fn write(&mut self, context: ContextId, (map, how): (MapKind, Write), header: (&[u8], &[u8])) {
        let write = |exchange: &mut Exchange| heads::write(exchange, map, how, header).map(|()| true);
        self.change(context, (map, Some(header.0)), write);
    }

    fn is_callout_map(map: MapKind) -> bool {
        !matches!(
            map,
            MapKind::RequestHeaders | MapKind::RequestTrailers | MapKind::ResponseHeaders | MapKind::ResponseTrailers
        )
    }

    /// The callout's map that can be read now.
    fn callout_map(&self, map: MapKind) -> Option<&HeaderMap> {
        match map {
            MapKind::CalloutHeaders => self.answer.map(|answer| &answer.headers),
            MapKind::CalloutTrailers => self.answer.map(|answer| &answer.trailers),
            _ => None,
        }
    }
}

/// The side that a stream body belongs to.
fn side_of(buffer: BufferKind) -> Option<Side> {
    match buffer {
        BufferKind::RequestBody => Some(Side::Request),
        BufferKind::ResponseBody => Some(Side::Response),
        _ => None,
    }
}

impl Host for HostView<'_> {
    fn log(&mut self, context: ContextId, level: LogLevel, message: &[u8]) {
        let name = self.slot.plugin.model.name.clone();
        let plugin = name.as_str();
        let request_id = self.with_stream(context, |exchange, _| exchange.request.headers.get("x-request-id").cloned());
        let request_id = request_id.flatten();
        let request_id = request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("-");
        let message = one_line(message);
        match level {
            LogLevel::Trace => trace!(target: "filter", plugin, request_id, "{message}"),
            LogLevel::Debug => debug!(target: "filter", plugin, request_id, "{message}"),
            LogLevel::Info => info!(target: "filter", plugin, request_id, "{message}"),
            LogLevel::Warn => warn!(target: "filter", plugin, request_id, "{message}"),
            LogLevel::Error | LogLevel::Critical => error!(target: "filter", plugin, request_id, "{message}"),
        }
    }

    fn log_level(&self) -> LogLevel {
        current_log_level()
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        self.slot.plugin.state.since_start()
    }

    fn property(&mut self, context: ContextId, path: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        let name = &self.slot.plugin.model.name;
        match path {
            b"plugin_name" | b"plugin_vm_id" => out.extend_from_slice(name.as_str().as_bytes()),
            b"plugin_root_id" => {}
            _ => {
                let found = self.with_stream(context, |exchange, _| properties::of_stream(exchange, path, out));
                if found != Some(true) {
                    return Err(Status::NotFound);
                }
            }
        }
        Ok(())
    }

    fn set_property(&mut self, context: ContextId, path: &[u8], value: &[u8]) -> Result<(), Status> {
        let slot = self.slot;
        self.with_stream(context, |exchange, _| {
            let values = &mut exchange.facts.values;
            let old = values.iter_mut().find(|(name, _)| &name[..] == path);
            let fits = path.len() + value.len() <= MAX_STREAM_VALUE_BYTES;
            if let (Some((_, old)), true) = (old, fits) {
                *old = value.into();
            } else if fits && values.len() < MAX_STREAM_VALUES {
                values.push((path.into(), value.into()));
            } else if slot.may_complain() {
                warn!(plugin = %slot.plugin.model.name, "a filter set too many properties or one too long; it is dropped");
            }
        });
        Ok(())
    }

    fn header_pairs(
        &mut self,
        context: ContextId,
        map: MapKind,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Status> {
        if Self::is_callout_map(map) {
            if let Some(answer) = self.answer.filter(|_| map == MapKind::CalloutHeaders) {
                visit(b":status", answer.status.as_bytes());
            }
            self.callout_map(map).into_iter().for_each(|headers| heads::visit_map(headers, visit));
        } else {
            self.with_stream(context, |exchange, _| heads::visit(exchange, map, visit));
        }
        Ok(())
    }

    fn header_value(&mut self, context: ContextId, map: MapKind, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        if let Some(answer) = self.answer.filter(|_| Self::is_callout_map(map)) {
            if map == MapKind::CalloutHeaders && name == b":status" {
                out.extend_from_slice(answer.status.as_bytes());
                return Ok(());
            }
            let name = HeaderName::from_bytes(name).map_err(|_| Status::NotFound)?;
            let value = self.callout_map(map).and_then(|headers| headers.get(name)).ok_or(Status::NotFound)?;
            out.extend_from_slice(value.as_bytes());
            return Ok(());
        }
        let found = self.with_stream(context, |exchange, _| match heads::value(exchange, map, name) {
            Some(value) => {
                out.extend_from_slice(value);
                true
            }
            None => false,
        });
        if found == Some(true) { Ok(()) } else { Err(Status::NotFound) }
    }

    fn set_header_pairs(&mut self, context: ContextId, map: MapKind, pairs: Pairs<'_>) -> Result<(), Status> {
        if Self::is_callout_map(map) {
            return Err(Status::BadArgument);
        }
        self.change(context, (map, None), |exchange| heads::replace_all(exchange, map, pairs.iter()).map(|()| true));
        Ok(())
    }

    fn add_header(&mut self, context: ContextId, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), Status> {
        if Self::is_callout_map(map) {
            return Err(Status::BadArgument);
        }
        self.write(context, (map, Write::Add), (name, value));
        Ok(())
    }

    fn replace_header(&mut self, context: ContextId, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), Status> {
        if Self::is_callout_map(map) {
            return Err(Status::BadArgument);
        }
        self.write(context, (map, Write::Replace), (name, value));
        Ok(())
    }

    fn remove_header(&mut self, context: ContextId, map: MapKind, name: &[u8]) -> Result<(), Status> {
        if Self::is_callout_map(map) {
            return Err(Status::BadArgument);
        }
        self.change(context, (map, Some(name)), |exchange| heads::remove(exchange, map, name));
        Ok(())
    }

    fn buffer_len(&mut self, context: ContextId, buffer: BufferKind) -> Result<usize, Status> {
        if let (BufferKind::CalloutBody, Some(answer)) = (buffer, self.answer) {
            return Ok(answer.body.len());
        }
        let side = side_of(buffer).ok_or(Status::NotFound)?;
        self.with_stream(context, |exchange, filter| exchange.body_at(side, filter).map(|body| body.len()))
            .flatten()
            .ok_or(Status::NotFound)
    }

    fn buffer_bytes(
        &mut self,
        context: ContextId,
        buffer: BufferKind,
        range: BufferRange,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        if let (BufferKind::CalloutBody, Some(answer)) = (buffer, self.answer) {
            out.extend_from_slice(&answer.body[range.within(answer.body.len())]);
            return Ok(());
        }
        let side = side_of(buffer).ok_or(Status::NotFound)?;
        let copied = self.with_stream(context, |exchange, filter| {
            let body = exchange.body_at(side, filter)?;
            out.extend_from_slice(&body[range.within(body.len())]);
            Some(())
        });
        copied.flatten().ok_or(Status::NotFound)
    }

    fn set_buffer_bytes(
        &mut self,
        context: ContextId,
        buffer: BufferKind,
        range: BufferRange,
        value: &[u8],
    ) -> Result<(), Status> {
        let side = side_of(buffer).ok_or(Status::NotFound)?;
        if self.read_only {
            return Ok(());
        }
        let slot = self.slot;
        self.with_stream(context, |exchange, filter| {
            let body = exchange.body_at(side, filter)?;
            if !splice(body, range, value) {
                if slot.may_complain() {
                    warn!(plugin = %slot.plugin.model.name, "a filter made a body larger than the limit; the stream is answered 413");
                }
                exchange.chain.ask(filter, Ask::Refuse(ProxyError::BodyTooLarge));
            }
            Some(())
        })
        .flatten()
        .ok_or(Status::NotFound)
    }

    fn continue_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status> {
        match stream {
            StreamKind::Request => self.ask(context, Ask::Continue(Side::Request)),
            StreamKind::Response => self.ask(context, Ask::Continue(Side::Response)),
            StreamKind::Downstream | StreamKind::Upstream => {}
        }
        Ok(())
    }

    fn close_stream(&mut self, context: ContextId, _stream: StreamKind) -> Result<(), Status> {
        let plugin = self.slot.plugin.model.name.to_string();
        self.ask(context, Ask::Close(ProxyError::FilterClosed { plugin }));
        Ok(())
    }

    fn send_local_reply(&mut self, context: ContextId, reply: &GuestReply<'_>) -> Result<(), Status> {
        if self.read_only {
            return Ok(());
        }
        let plugin = self.slot.plugin.model.name.to_string();
        let details = details_of(reply.details);
        self.with_stream(context, |exchange, filter| match local_reply(exchange, reply) {
            _ if exchange.chain.is_replied() => {} // The first one wins, and no other is kept.
            Ok(local) => {
                if exchange.facts.replied_by.is_none() {
                    exchange.facts.replied_by = Some(plugin.as_str().into());
                    exchange.facts.details = Some(details.into());
                }
                exchange.chain.ask(filter, Ask::Reply(local));
            }
            Err(Invalid) => exchange.chain.ask(filter, Ask::Refuse(ProxyError::FilterOutput { plugin })),
        });
        Ok(())
    }

    fn clear_route_cache(&mut self, _context: ContextId) -> Result<(), Status> {
        Ok(()) // The route is checked after the last filter in any case (invariant I8b).
    }

    fn http_call(&mut self, _root: ContextId, call: &HttpCall<'_>) -> Result<u32, Status> {
        self.slot.callouts.start(self.slot, call)
    }

    fn call_status(&mut self, _root: ContextId, out: &mut Vec<u8>) -> Result<u32, Status> {
        match self.answer.map(|answer| answer.failed) {
            Some(Some(reason)) => {
                out.extend_from_slice(reason.as_bytes());
                Ok(Status::BrokenConnection.number())
            }
            Some(None) | None => Ok(0),
        }
    }

    fn namespace(&self) -> &Namespace {
        &self.slot.plugin.namespace
    }

    fn metrics(&self) -> &RefCell<MetricTable> {
        &self.slot.guest_metrics
    }

    fn foreign_function(
        &mut self,
        _context: ContextId,
        name: &[u8],
        _arguments: &[u8],
        _out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        if name == b"clear_route_cache" { Ok(()) } else { Err(Status::NotFound) }
    }
}

/// A message as one line of the log: a filter, or whoever its message comes from, forges no further ones.
fn one_line(message: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(message);
    if text.contains(char::is_control) { Cow::Owned(text.replace(char::is_control, " ")) } else { text }
}

/// The least serious level that the process writes, as guests number it.
pub(super) fn current_log_level() -> LogLevel {
    match LevelFilter::current() {
        LevelFilter::TRACE => LogLevel::Trace,
        LevelFilter::DEBUG => LogLevel::Debug,
        LevelFilter::INFO => LogLevel::Info,
        LevelFilter::WARN => LogLevel::Warn,
        LevelFilter::ERROR => LogLevel::Error,
        _ => LogLevel::Critical,
    }
}

/// Replaces a range of a body; `false` when it would grow past what a stream may hold.
fn splice(body: &mut BytesMut, range: BufferRange, value: &[u8]) -> bool {
    let range = range.within(body.len());
    if body.len() - range.len() + value.len() > MAX_HELD_BODY_BYTES.max(body.len()) {
        return false;
    }
    if range.end == body.len() {
        body.truncate(range.start);
        body.extend_from_slice(value);
    } else {
        let tail = body.split_off(range.end);
        body.truncate(range.start);
        body.extend_from_slice(value);
        body.unsplit(tail);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(one_line(b"a\r\nb\0\x1b[0m\xff"), "a  b  [0m\u{fffd}");
        assert!(matches!(one_line("all is well: \u{e9}".as_bytes()), Cow::Borrowed(_)));
    }

    #[test]
    fn a_body_can_be_changed_anywhere() {
        for (start, max, value, expected) in [
            (0, 0, "X", "Xabcdef"),
            (0, 3, "X", "Xdef"),
            (2, 2, "XYZ", "abXYZef"),
            (6, 0, "X", "abcdefX"),
            (usize::MAX, usize::MAX, "X", "abcdefX"),
            (0, usize::MAX, "", ""),
            (4, 100, "X", "abcdX"),
        ] {
            let mut body = BytesMut::from("abcdef");
            assert!(splice(&mut body, BufferRange { start, max }, value.as_bytes()));
            assert_eq!(body, expected.as_bytes(), "{start} {max} {value}");
        }
        let mut body = BytesMut::from("abc");
        assert!(!splice(&mut body, BufferRange { start: 0, max: 0 }, &vec![0; MAX_HELD_BODY_BYTES]));
        assert_eq!(body, b"abc"[..]);
    }
}
