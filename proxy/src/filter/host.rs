//! What a guest's host calls see and do: `weir_host_abi::Host` over one stream, or over none (a tick, a callout's
//! answer). The effective context decides which stream: the current one is at hand, another one of the same VM is found
//! in the slot's table. What a guest asks for is queued; nothing is called from here.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::HeaderName;
use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, trace, warn};
use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::log::LogLevel;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::pairs::Pairs;
use weir_host_abi::abi::property::PropertyValue;
use weir_host_abi::abi::stream::StreamKind;
use weir_host_abi::host::{BufferRange, GrpcCall, HttpCall, LocalReply as GuestReply};
use weir_host_abi::{ContextId, EndOfStream, Host, MetricTable, Namespace, Status, foreign};

use crate::error::ProxyError;
use crate::filter::event::{Ask, Side};
use crate::filter::heads::{self, Invalid, Write};
use crate::filter::properties;
use crate::filter::reply::{details_of, local_reply};
use crate::filter::splice::splice;
use crate::filter::view::HostView;
use crate::limits::{MAX_STREAM_VALUE_BYTES, MAX_STREAM_VALUES};

/// The side that a buffer of a stream belongs to, and whether it is one of TCP connections.
fn side_of(buffer: BufferKind) -> Option<(Side, bool)> {
    match buffer {
        BufferKind::RequestBody => Some((Side::Request, false)),
        BufferKind::ResponseBody => Some((Side::Response, false)),
        BufferKind::DownstreamData => Some((Side::Request, true)),
        BufferKind::UpstreamData => Some((Side::Response, true)),
        _ => None,
    }
}

impl Host for HostView<'_> {
    fn log(&mut self, context: ContextId, level: LogLevel, message: &[u8]) {
        let name = self.slot.plugin.model.name.clone();
        let plugin = name.as_str();
        let request_id = self.with_stream(context, |exchange, _| {
            let id = heads::value(exchange, MapKind::RequestHeaders, b"x-request-id")?;
            String::from_utf8(id.to_vec()).ok()
        });
        let request_id = request_id.flatten();
        let request_id = request_id.as_deref().unwrap_or("-");
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
        self.slot.plugin.state().since_start()
    }

    fn property(
        &mut self,
        context: ContextId,
        path: &[u8],
        see: &mut dyn FnMut(PropertyValue<'_>),
    ) -> Result<(), Status> {
        let own = self.slot.plugin.plugin.settings().property(path);
        if let Some(own) = own.or_else(|| properties::of_node(path, self.slot.plugin.state().node())) {
            see(PropertyValue::text(own));
            return Ok(());
        }
        let found = self.with_stream(context, |exchange, _| properties::of_stream(exchange, path).map(see));
        found.unwrap_or(Err(Status::NotFound))
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
            } else {
                slot.metrics.limited.increment("properties");
                if slot.may_complain() {
                    warn!(plugin = %slot.plugin.model.name, "a filter set too many properties or one too long; it is dropped");
                }
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
            self.with_request(context, |exchange, _| heads::visit(exchange, map, visit));
        }
        Ok(())
    }

    fn header_value(&mut self, context: ContextId, map: MapKind, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        if Self::is_callout_map(map) {
            if let Some(answer) = self.answer.filter(|_| map == MapKind::CalloutHeaders && name == b":status") {
                out.extend_from_slice(answer.status.as_bytes());
                return Ok(());
            }
            let name = HeaderName::from_bytes(name).map_err(|_| Status::NotFound)?;
            let value = self.callout_map(map).and_then(|headers| headers.get(name)).ok_or(Status::NotFound)?;
            out.extend_from_slice(value.as_bytes());
            return Ok(());
        }
        let found = self.with_request(context, |exchange, _| match heads::value(exchange, map, name) {
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
        let room = self.head_room();
        self.change(context, (map, None), |exchange| {
            heads::replace_all(exchange, map, pairs.iter())?;
            heads::grow(exchange, map, usize::MAX, room).map(|()| true)
        });
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
        let Some(place) = side_of(buffer) else { return self.callout_bytes(buffer).map(|bytes| bytes.len()) };
        self.with_body(context, place, |body| body.map_or(0, BytesMut::len))
    }

    fn buffer_bytes(
        &mut self,
        context: ContextId,
        buffer: BufferKind,
        range: BufferRange,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let Some(place) = side_of(buffer) else {
            let bytes = self.callout_bytes(buffer)?;
            out.extend_from_slice(&bytes[range.within(bytes.len())]);
            return Ok(());
        };
        self.with_body(context, place, |body| {
            if let Some(body) = body {
                out.extend_from_slice(&body[range.within(body.len())]);
            }
        })
    }

    fn set_buffer_bytes(
        &mut self,
        context: ContextId,
        buffer: BufferKind,
        range: BufferRange,
        value: &[u8],
    ) -> Result<(), Status> {
        let (side, is_tcp) = side_of(buffer).ok_or(Status::NotFound)?;
        if self.read_only {
            return Ok(());
        }
        let slot = self.slot;
        let plugin = &slot.plugin.model.name;
        let written = self.with_stream(context, |exchange, filter| {
            let body = if exchange.is_tcp == is_tcp { exchange.chain.writable_body_at(side, filter) } else { None };
            let Some((body, room)) = body else { return false };
            if !splice((body, room), range, value) {
                slot.metrics.limited.increment("body");
                if slot.may_complain() {
                    warn!(%plugin, "a filter made a body larger than its limit; the stream is answered 413");
                }
                exchange.chain.ask(filter, Ask::Refuse(ProxyError::BodyTooLarge));
            }
            true
        });
        if written != Some(true) {
            debug!(%plugin, "a filter changed a body that is not there now; nothing happens");
        }
        Ok(())
    }

    fn continue_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status> {
        match stream {
            StreamKind::Request => self.ask(context, false, Ask::Continue(Side::Request)),
            StreamKind::Response => self.ask(context, false, Ask::Continue(Side::Response)),
            StreamKind::Downstream => self.ask(context, true, Ask::Continue(Side::Request)),
            StreamKind::Upstream => self.ask(context, true, Ask::Continue(Side::Response)),
        }
        Ok(())
    }

    fn close_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status> {
        let plugin = self.slot.plugin.model.name.to_string();
        self.ask(context, false, Ask::Close(ProxyError::FilterClosed { plugin: plugin.clone() }));
        // As in Envoy, either side of a TCP connection is the whole of it.
        if matches!(stream, StreamKind::Downstream | StreamKind::Upstream) {
            self.ask(context, true, Ask::Close(ProxyError::FilterClosed { plugin }));
        }
        Ok(())
    }

    fn send_local_reply(&mut self, context: ContextId, reply: &GuestReply<'_>) -> Result<(), Status> {
        if self.read_only {
            return Ok(());
        }
        let plugin = self.slot.plugin.model.name.to_string();
        let details = details_of(reply.details);
        self.with_request(context, |exchange, filter| match local_reply(exchange, reply) {
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

    fn grpc_call(&mut self, _root: ContextId, call: &GrpcCall<'_>) -> Result<u32, Status> {
        self.slot.callouts.start_grpc(self.slot, call)
    }

    fn grpc_send(&mut self, _root: ContextId, call: u32, message: &[u8], end: EndOfStream) -> Result<(), Status> {
        self.slot.callouts.send(self.slot, call, message, end)
    }

    fn grpc_close(&mut self, _root: ContextId, call: u32) -> Result<(), Status> {
        self.slot.callouts.close(call)
    }

    fn grpc_cancel(&mut self, _root: ContextId, call: u32) -> Result<(), Status> {
        self.slot.callouts.cancel(call)
    }

    fn call_status(&mut self, _root: ContextId, out: &mut Vec<u8>) -> Result<u32, Status> {
        let (code, text) = self.slot.callouts.status();
        out.extend_from_slice(text.as_bytes());
        Ok(code)
    }

    fn register_queue(&mut self, _root: ContextId, name: &[u8]) -> Result<u32, Status> {
        Ok(self.slot.register_queue(name))
    }

    fn namespace(&self) -> &Namespace {
        self.slot.plugin.namespace()
    }

    fn metrics(&self) -> &RefCell<MetricTable> {
        &self.slot.cell.guest_metrics
    }

    fn foreign_function(
        &mut self,
        _context: ContextId,
        name: &[u8],
        arguments: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        match name {
            b"clear_route_cache" => Ok(()), // As above.
            _ => foreign::call(name, arguments, out),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(one_line(b"a\r\nb\0\x1b[0m\xff"), "a  b  [0m\u{fffd}");
        assert!(matches!(one_line("all is well: \u{e9}".as_bytes()), Cow::Borrowed(_)));
    }
}
