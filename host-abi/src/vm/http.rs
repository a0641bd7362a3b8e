//! The callbacks of HTTP streams, in the order in which a stream meets them: create, request, response, log, done,
//! delete.

use crate::abi::action::{BodyAction, HeadersAction, TrailersAction};
use crate::abi::context::ContextId;
use crate::failure::Failure;
use crate::host::{EndOfStream, Host};
use crate::vm::Vm;
use crate::vm::callbacks::{Callback, Callbacks, HeadersCallback};

type Trailers = Callback<2>;

impl Vm {
    /// Creates a context for a stream or connection of the acting plugin (`proxy_on_context_create`).
    ///
    /// # Errors
    /// When the guest fails; the context does not live then.
    pub fn create_stream(&mut self, host: &mut dyn Host) -> Result<ContextId, Failure> {
        let context = self.store.data_mut().contexts.create(self.acting);
        let arguments = [context.number(), self.root_context().number()];
        let created = self.call(host, context, |callbacks| &callbacks.context_create, arguments);
        if let Err(failure) = created {
            self.store.data_mut().contexts.delete(context);
            return Err(failure);
        }
        Ok(context)
    }

    /// `proxy_on_request_headers`: `count` entries are readable in the request headers.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_request_headers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        count: u32,
        end: EndOfStream,
    ) -> Result<HeadersAction, Failure> {
        self.on_headers(host, context, |callbacks| &callbacks.request_headers, (count, end))
    }

    /// `proxy_on_request_body`: `size` bytes are readable in the request body.
    ///
    /// # Errors
    /// When the guest fails.
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

    /// `proxy_on_request_trailers`: `count` entries are readable in the request trailers.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_request_trailers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        count: u32,
    ) -> Result<TrailersAction, Failure> {
        self.on_trailers(host, context, |callbacks| &callbacks.request_trailers, count)
    }

    /// `proxy_on_response_headers`: `count` entries are readable in the response headers.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_response_headers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        count: u32,
        end: EndOfStream,
    ) -> Result<HeadersAction, Failure> {
        self.on_headers(host, context, |callbacks| &callbacks.response_headers, (count, end))
    }

    /// `proxy_on_response_body`: `size` bytes are readable in the response body.
    ///
    /// # Errors
    /// When the guest fails.
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

    /// `proxy_on_response_trailers`: `count` entries are readable in the response trailers.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_response_trailers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        count: u32,
    ) -> Result<TrailersAction, Failure> {
        self.on_trailers(host, context, |callbacks| &callbacks.response_trailers, count)
    }

    /// `proxy_on_log`: once, after the stream has ended.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_log(&mut self, host: &mut dyn Host, context: ContextId) -> Result<(), Failure> {
        self.call(host, context, |callbacks| &callbacks.log, [context.number()])?;
        Ok(())
    }

    /// `proxy_on_done`: whether the context may be deleted now. If not, the guest calls `proxy_done` later, which
    /// [`Vm::take_done`] tells.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_done(&mut self, host: &mut dyn Host, context: ContextId) -> Result<bool, Failure> {
        let done = self.call(host, context, |callbacks| &callbacks.done, [context.number()])?;
        let done = done.is_none_or(|done| done != 0);
        if !done {
            self.store.data_mut().contexts.set_pending(context);
        }
        Ok(done)
    }

    /// `proxy_on_delete`: the context ends, whether the guest fails or not.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_delete(&mut self, host: &mut dyn Host, context: ContextId) -> Result<(), Failure> {
        let outcome = self.call(host, context, |callbacks| &callbacks.delete, [context.number()]);
        self.store.data_mut().contexts.delete(context);
        outcome.map(|_| ())
    }

    /// A context ends whose module has none of the callbacks for it: [`Vm::on_log`], [`Vm::on_done`] and [`Vm::on_delete`]
    /// at once.
    pub fn forget(&mut self, context: ContextId) {
        self.store.data_mut().contexts.delete(context);
    }

    fn on_headers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        pick: fn(&Callbacks) -> &HeadersCallback,
        (count, end): (u32, EndOfStream),
    ) -> Result<HeadersAction, Failure> {
        let arguments = [context.number(), count, end.number()];
        let action = match self.call(host, context, |callbacks| &pick(callbacks).with_end, arguments)? {
            Some(action) => Some(action),
            None => self.call(host, context, |callbacks| &pick(callbacks).without_end, [context.number(), count])?,
        };
        let pause = self.store.data().resident().header_pause;
        Ok(action.map_or(HeadersAction::Continue, |action| HeadersAction::from_guest(action, pause)))
    }

    fn on_trailers(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        pick: fn(&Callbacks) -> &Trailers,
        count: u32,
    ) -> Result<TrailersAction, Failure> {
        let action = self.call(host, context, pick, [context.number(), count])?;
        Ok(action.map_or(TrailersAction::Continue, TrailersAction::from_guest))
    }
}

/// A length as guests know it.
pub(super) fn clamped(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
