//! The callbacks of TCP connections. TCP connections share the create, log, done and delete callbacks of streams.

use crate::abi::action::ConnectionAction;
use crate::abi::context::ContextId;
use crate::abi::stream::PeerKind;
use crate::failure::Failure;
use crate::host::{EndOfStream, Host};
use crate::vm::Vm;
use crate::vm::http::clamped;

impl Vm {
    /// Calls `proxy_on_new_connection`.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_new_connection(&mut self, host: &mut dyn Host, context: ContextId) -> Result<ConnectionAction, Failure> {
        let action = self.call(host, context, |callbacks| &callbacks.new_connection, [context.number()])?;
        Ok(action.map_or(ConnectionAction::Continue, ConnectionAction::from_guest))
    }

    /// Calls `proxy_on_downstream_data`; `size` bytes are readable in the downstream data.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_downstream_data(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        size: usize,
        end: EndOfStream,
    ) -> Result<ConnectionAction, Failure> {
        let arguments = [context.number(), clamped(size), end.number()];
        let action = self.call(host, context, |callbacks| &callbacks.downstream_data, arguments)?;
        Ok(action.map_or(ConnectionAction::Continue, ConnectionAction::from_guest))
    }

    /// Calls `proxy_on_upstream_data`; `size` bytes are readable in the upstream data.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_upstream_data(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        size: usize,
        end: EndOfStream,
    ) -> Result<ConnectionAction, Failure> {
        let arguments = [context.number(), clamped(size), end.number()];
        let action = self.call(host, context, |callbacks| &callbacks.upstream_data, arguments)?;
        Ok(action.map_or(ConnectionAction::Continue, ConnectionAction::from_guest))
    }

    /// Calls `proxy_on_downstream_connection_close`.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_downstream_close(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        peer: PeerKind,
    ) -> Result<(), Failure> {
        let arguments = [context.number(), peer.number()];
        self.call(host, context, |callbacks| &callbacks.downstream_close, arguments).map(|_| ())
    }

    /// Calls `proxy_on_upstream_connection_close`.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_upstream_close(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        peer: PeerKind,
    ) -> Result<(), Failure> {
        let arguments = [context.number(), peer.number()];
        self.call(host, context, |callbacks| &callbacks.upstream_close, arguments).map(|_| ())
    }
}
