//! Hostcalls: implements `weir_host_abi::Host` for [`ProxyHost`], over one stream or over none (a timer callback, a
//! callout's response).
//!
//! The effective context selects the stream: the current one, or another one of the same VM through its table.
//! Commands and effects are queued, and guests are never called from here.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use http::HeaderName;
use tracing::{debug, error, info, trace, warn};
use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::log::LogLevel;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::pairs::Pairs;
use weir_host_abi::abi::property::PropertyValue;
use weir_host_abi::abi::stream::StreamKind;
use weir_host_abi::host::{BufferRange, GrpcCall, HttpCall, LocalReply as GuestReply};
use weir_host_abi::{ContextId, EndOfStream, Host, MetricTable, Namespace, Status, foreign};

use super::body_edit::splice;
use super::guest_reply::{access_log_detail, parse_guest_reply};
use super::header_map::{self, HeaderField, HeaderWrite, InvalidHeader};
use super::properties;
use super::scope::{ProxyHost, StreamBuffer};
use crate::error::ProxyError;
use crate::filter::callout::GrpcStatus;
use crate::filter::chain::{Direction, StreamCommand};
use crate::limits::{MAX_STREAM_PROPERTIES, MAX_STREAM_PROPERTY_BYTES};
use crate::telemetry::{self, StreamProperty};

/// Returns the stream buffer that a guest names. `None` for the buffers of callouts.
fn stream_buffer(buffer: BufferKind) -> Option<StreamBuffer> {
    let (direction, is_tcp) = match buffer {
        BufferKind::RequestBody => (Direction::Request, false),
        BufferKind::ResponseBody => (Direction::Response, false),
        BufferKind::DownstreamData => (Direction::Request, true),
        BufferKind::UpstreamData => (Direction::Response, true),
        _ => return None,
    };
    Some(StreamBuffer { direction, is_tcp })
}

impl Host for ProxyHost<'_> {
    fn log(&mut self, context: ContextId, level: LogLevel, message: &[u8]) {
        let name = self.instance.plugin.model.name.clone();
        let plugin = name.as_str();
        let request_id = self.with_stream(context, |exchange, _| {
            let id = header_map::value(exchange, MapKind::RequestHeaders, b"x-request-id")?;
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
        telemetry::guest_log_level()
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        self.instance.plugin.state().since_start()
    }

    fn property(
        &mut self,
        context: ContextId,
        path: &[u8],
        see: &mut dyn FnMut(PropertyValue<'_>),
    ) -> Result<(), Status> {
        let plugin_property = self.instance.plugin.plugin.settings().property(path);
        if let Some(text) =
            plugin_property.or_else(|| properties::node_property(path, self.instance.plugin.state().node()))
        {
            see(PropertyValue::text(text));
            return Ok(());
        }
        let found = self.with_stream(context, |exchange, _| properties::stream_property(exchange, path).map(see));
        found.unwrap_or(Err(Status::NotFound))
    }

    fn set_property(&mut self, context: ContextId, path: &[u8], value: &[u8]) -> Result<(), Status> {
        let instance = self.instance;
        self.with_stream(context, |exchange, _| {
            let values = &mut exchange.stream_info.properties;
            let old = values.iter_mut().find(|property| *property.path == *path);
            let fits = path.len() + value.len() <= MAX_STREAM_PROPERTY_BYTES;
            if let (Some(old), true) = (old, fits) {
                old.value = value.into();
            } else if fits && values.len() < MAX_STREAM_PROPERTIES {
                values.push(StreamProperty { path: path.into(), value: value.into() });
            } else {
                instance.metrics.limited.increment("properties");
                if instance.should_log_misuse() {
                    let plugin = &instance.plugin.model.name;
                    warn!(%plugin, "a filter set too many properties, or one that is too long; the property is dropped");
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
            if let Some(response) = self.http_response().filter(|_| map == MapKind::CalloutHeaders) {
                visit(b":status", response.status.as_bytes());
            }
            self.callout_map(map).into_iter().for_each(|headers| header_map::visit_map(headers, visit));
        } else {
            self.with_request(context, |exchange, _| header_map::visit(exchange, map, visit));
        }
        Ok(())
    }

    fn header_value(&mut self, context: ContextId, map: MapKind, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        if Self::is_callout_map(map) {
            if let Some(response) =
                self.http_response().filter(|_| map == MapKind::CalloutHeaders && name == b":status")
            {
                out.extend_from_slice(response.status.as_bytes());
                return Ok(());
            }
            let name = HeaderName::from_bytes(name).map_err(|_| Status::NotFound)?;
            let value = self.callout_map(map).and_then(|headers| headers.get(name)).ok_or(Status::NotFound)?;
            out.extend_from_slice(value.as_bytes());
            return Ok(());
        }
        let found = self.with_request(context, |exchange, _| match header_map::value(exchange, map, name) {
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
        let limit_bytes = self.header_limit_bytes();
        self.edit_headers(context, map, None, |exchange| {
            header_map::replace_all(exchange, map, pairs.iter())?;
            header_map::charge_growth(exchange, map, usize::MAX, limit_bytes).map(|()| true)
        });
        Ok(())
    }

    fn add_header(&mut self, context: ContextId, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), Status> {
        if Self::is_callout_map(map) {
            return Err(Status::BadArgument);
        }
        self.write_header(context, map, HeaderWrite::Append, HeaderField { name, value });
        Ok(())
    }

    fn replace_header(&mut self, context: ContextId, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), Status> {
        if Self::is_callout_map(map) {
            return Err(Status::BadArgument);
        }
        self.write_header(context, map, HeaderWrite::Set, HeaderField { name, value });
        Ok(())
    }

    fn remove_header(&mut self, context: ContextId, map: MapKind, name: &[u8]) -> Result<(), Status> {
        if Self::is_callout_map(map) {
            return Err(Status::BadArgument);
        }
        self.edit_headers(context, map, Some(name), |exchange| header_map::remove(exchange, map, name));
        Ok(())
    }

    fn buffer_len(&mut self, context: ContextId, buffer: BufferKind) -> Result<usize, Status> {
        let Some(buffer) = stream_buffer(buffer) else { return self.callout_buffer(buffer).map(|bytes| bytes.len()) };
        self.read_body(context, buffer, <[u8]>::len)
    }

    fn buffer_bytes(
        &mut self,
        context: ContextId,
        buffer: BufferKind,
        range: BufferRange,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let Some(stream_buffer) = stream_buffer(buffer) else {
            let bytes = self.callout_buffer(buffer)?;
            out.extend_from_slice(&bytes[range.within(bytes.len())]);
            return Ok(());
        };
        self.read_body(context, stream_buffer, |body| out.extend_from_slice(&body[range.within(body.len())]))
    }

    fn set_buffer_bytes(
        &mut self,
        context: ContextId,
        buffer: BufferKind,
        range: BufferRange,
        value: &[u8],
    ) -> Result<(), Status> {
        let StreamBuffer { direction, is_tcp } = stream_buffer(buffer).ok_or(Status::NotFound)?;
        if self.read_only {
            return Ok(());
        }
        let instance = self.instance;
        let plugin = &instance.plugin.model.name;
        let written = self.with_stream(context, |exchange, filter| {
            let body = if exchange.is_tcp == is_tcp { exchange.chain.writable_body(direction, filter) } else { None };
            let Some((body, limit_bytes)) = body else { return false };
            if !splice(body, limit_bytes, range, value) {
                instance.metrics.limited.increment("body");
                if instance.should_log_misuse() {
                    warn!(%plugin, "a filter made a body larger than its limit; the stream fails with 413");
                }
                exchange.chain.queue_command(filter, StreamCommand::Fail(ProxyError::BodyTooLarge));
            }
            true
        });
        if written != Some(true) {
            debug!(%plugin, "a filter changed a body that it cannot write now; ignored");
        }
        Ok(())
    }

    fn continue_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status> {
        match stream {
            StreamKind::Request => self.queue_command(context, false, StreamCommand::Continue(Direction::Request)),
            StreamKind::Response => self.queue_command(context, false, StreamCommand::Continue(Direction::Response)),
            StreamKind::Downstream => self.queue_command(context, true, StreamCommand::Continue(Direction::Request)),
            StreamKind::Upstream => self.queue_command(context, true, StreamCommand::Continue(Direction::Response)),
        }
        Ok(())
    }

    fn close_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status> {
        let plugin = self.instance.plugin.model.name.to_string();
        self.queue_command(context, false, StreamCommand::Close(ProxyError::FilterClosed { plugin: plugin.clone() }));
        // As in Envoy, closing either side of a TCP connection closes the whole of it.
        if matches!(stream, StreamKind::Downstream | StreamKind::Upstream) {
            self.queue_command(context, true, StreamCommand::Close(ProxyError::FilterClosed { plugin }));
        }
        Ok(())
    }

    fn send_local_reply(&mut self, context: ContextId, reply: &GuestReply<'_>) -> Result<(), Status> {
        if self.read_only {
            return Ok(());
        }
        let plugin = self.instance.plugin.model.name.to_string();
        let details = access_log_detail(reply.details);
        self.with_request(context, |exchange, filter| match parse_guest_reply(reply) {
            _ if exchange.chain.has_queued_reply() => {} // The first reply wins.
            Ok(local) => {
                let is_sent = exchange.chain.direction(Direction::Response).output.headers_taken();
                let replaces = exchange.chain.accepts_reply(filter) && !is_sent;
                if exchange.stream_info.replied_by.is_none() || replaces {
                    exchange.stream_info.replied_by = Some(plugin.as_str().into());
                    exchange.stream_info.details = Some(details.into());
                }
                exchange.chain.queue_command(filter, StreamCommand::LocalReply(local));
            }
            Err(InvalidHeader) => {
                exchange.chain.queue_command(filter, StreamCommand::Fail(ProxyError::FilterOutput { plugin }));
            }
        });
        Ok(())
    }

    fn clear_route_cache(&mut self, _context: ContextId) -> Result<(), Status> {
        Ok(()) // The route is matched after the last filter in any case (invariant I9).
    }

    fn http_call(&mut self, _root: ContextId, call: &HttpCall<'_>) -> Result<u32, Status> {
        self.start_http_callout(call)
    }

    fn grpc_call(&mut self, _root: ContextId, call: &GrpcCall<'_>) -> Result<u32, Status> {
        self.start_grpc_callout(call)
    }

    fn grpc_send(&mut self, _root: ContextId, call: u32, message: &[u8], end: EndOfStream) -> Result<(), Status> {
        self.send_grpc_message(call, message, end)
    }

    fn grpc_close(&mut self, _root: ContextId, call: u32) -> Result<(), Status> {
        self.instance.callouts.close(call)
    }

    fn grpc_cancel(&mut self, _root: ContextId, call: u32) -> Result<(), Status> {
        self.instance.callouts.cancel(call)
    }

    fn call_status(&mut self, _root: ContextId, out: &mut Vec<u8>) -> Result<u32, Status> {
        let GrpcStatus { code, text } = self.instance.callouts.status();
        out.extend_from_slice(text.as_bytes());
        Ok(code)
    }

    fn register_queue(&mut self, _root: ContextId, name: &[u8]) -> Result<u32, Status> {
        Ok(self.instance.register_queue(name))
    }

    fn namespace(&self) -> &Namespace {
        self.instance.plugin.namespace()
    }

    fn metrics(&self) -> &RefCell<MetricTable> {
        self.guest_metrics
    }

    fn foreign_function(
        &mut self,
        _context: ContextId,
        name: &[u8],
        arguments: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        match name {
            b"clear_route_cache" => Ok(()), // The same as the hostcall.
            _ => foreign::call(name, arguments, out),
        }
    }
}

/// Returns a message as one log line. Replaces control characters, so that a message cannot forge further lines.
fn one_line(message: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(message);
    if text.contains(char::is_control) { Cow::Owned(text.replace(char::is_control, " ")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(one_line(b"a\r\nb\0\x1b[0m\xff"), "a  b  [0m\u{fffd}");
        assert!(matches!(one_line("all is well: \u{e9}".as_bytes()), Cow::Borrowed(_)));
    }
}
