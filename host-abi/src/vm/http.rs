//! The callbacks of HTTP streams, in the order of a stream's life: create, request, response, log, done, delete.

use crate::abi::action::{BodyAction, HeadersAction, TrailersAction};
use crate::abi::context::ContextId;
use crate::failure::Failure;
use crate::host::{EndOfStream, Host};
use crate::vm::Vm;
use crate::vm::callbacks::{Callback, Callbacks, HeadersCallback};

/// The arguments of a headers callback.
#[derive(Clone, Copy)]
struct HeadersEvent {
    count: u32,
    end: EndOfStream,
}

impl Vm {
    /// Creates a context for a stream or connection of the selected plugin (`proxy_on_context_create`).
    ///
    /// # Errors
    /// The guest fails. The context is not live then.
    pub fn create_stream(&mut self, host: &mut dyn Host) -> Result<ContextId, Failure> {
        let context = self.store.data_mut().contexts.create(self.selected);
        let arguments = [context.number(), self.plugin_context().number()];
        let created = self.call(host, context, |callbacks| &callbacks.context_create, arguments);
        if let Err(failure) = created {
            self.store.data_mut().contexts.delete(context);
            return Err(failure);
        }
        Ok(context)
    }

    /// Calls `proxy_on_request_headers`; `count` entries are readable in the request headers.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_request_headers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        count: u32,
        end: EndOfStream,
    ) -> Result<HeadersAction, Failure> {
        self.on_headers(host, context, |callbacks| &callbacks.request_headers, HeadersEvent { count, end })
    }

    /// Calls `proxy_on_request_body`; `size` bytes are readable in the request body.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_request_body(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        size: usize,
        end: EndOfStream,
    ) -> Result<BodyAction, Failure> {
        let arguments = [context.number(), clamped(size), end.number()];
        let action = self.call(host, context, |callbacks| &callbacks.request_body, arguments)?;
        Ok(action.map_or(BodyAction::Continue, BodyAction::from_guest))
    }

    /// Calls `proxy_on_request_trailers`; `count` entries are readable in the request trailers.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_request_trailers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        count: u32,
    ) -> Result<TrailersAction, Failure> {
        self.on_trailers(host, context, |callbacks| &callbacks.request_trailers, count)
    }

    /// Calls `proxy_on_response_headers`; `count` entries are readable in the response headers.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_response_headers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        count: u32,
        end: EndOfStream,
    ) -> Result<HeadersAction, Failure> {
        self.on_headers(host, context, |callbacks| &callbacks.response_headers, HeadersEvent { count, end })
    }

    /// Calls `proxy_on_response_body`; `size` bytes are readable in the response body.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_response_body(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        size: usize,
        end: EndOfStream,
    ) -> Result<BodyAction, Failure> {
        let arguments = [context.number(), clamped(size), end.number()];
        let action = self.call(host, context, |callbacks| &callbacks.response_body, arguments)?;
        Ok(action.map_or(BodyAction::Continue, BodyAction::from_guest))
    }

    /// Calls `proxy_on_response_trailers`; `count` entries are readable in the response trailers.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_response_trailers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        count: u32,
    ) -> Result<TrailersAction, Failure> {
        self.on_trailers(host, context, |callbacks| &callbacks.response_trailers, count)
    }

    /// Calls `proxy_on_log`, once, after the stream has ended.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_log(&mut self, host: &mut dyn Host, context: ContextId) -> Result<(), Failure> {
        self.call(host, context, |callbacks| &callbacks.log, [context.number()])?;
        Ok(())
    }

    /// Calls `proxy_on_done` and returns whether the context may be deleted now. If not, the guest calls `proxy_done`
    /// later, which [`Vm::take_plugin_done`] reports for a plugin context.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_done(&mut self, host: &mut dyn Host, context: ContextId) -> Result<bool, Failure> {
        let done = self.call(host, context, |callbacks| &callbacks.done, [context.number()])?;
        let done = done.is_none_or(|done| done != 0);
        if !done {
            self.store.data_mut().contexts.set_pending(context);
        }
        Ok(done)
    }

    /// Calls `proxy_on_delete` and removes the context, also when the guest fails.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_delete(&mut self, host: &mut dyn Host, context: ContextId) -> Result<(), Failure> {
        let outcome = self.call(host, context, |callbacks| &callbacks.delete, [context.number()]);
        self.store.data_mut().contexts.delete(context);
        outcome.map(|_| ())
    }

    /// Removes a context without a callback. It replaces [`Vm::on_log`], [`Vm::on_done`] and [`Vm::on_delete`] for a
    /// module that exports none of them.
    pub fn delete_silently(&mut self, context: ContextId) {
        self.store.data_mut().contexts.delete(context);
    }

    fn on_headers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        pick: fn(&Callbacks) -> &HeadersCallback,
        HeadersEvent { count, end }: HeadersEvent,
    ) -> Result<HeadersAction, Failure> {
        let arguments = [context.number(), count, end.number()];
        let action = match self.call(host, context, |callbacks| &pick(callbacks).with_end, arguments)? {
            Some(action) => Some(action),
            None => self.call(host, context, |callbacks| &pick(callbacks).without_end, [context.number(), count])?,
        };
        let pause = self.store.data().plugin().header_pause;
        Ok(action.map_or(HeadersAction::Continue, |action| HeadersAction::from_guest(action, pause)))
    }

    fn on_trailers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        pick: fn(&Callbacks) -> &Callback<2>,
        count: u32,
    ) -> Result<TrailersAction, Failure> {
        let action = self.call(host, context, pick, [context.number(), count])?;
        Ok(action.map_or(TrailersAction::Continue, TrailersAction::from_guest))
    }
}

/// Converts a length to the ABI's 32 bits; larger lengths saturate.
pub(super) fn clamped(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
