//! The callbacks of the plugin context: timer, queues, and responses of callouts.

use crate::failure::Failure;
use crate::host::Host;
use crate::vm::Vm;
use crate::vm::http::clamped;

/// The size of a callout's response. All zero for a failed callout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CalloutResponseSizes {
    /// Number of headers; 0 when the callout failed.
    pub headers: u32,
    /// Body size in bytes.
    pub body: usize,
    /// Number of trailers.
    pub trailers: u32,
}

impl Vm {
    /// Calls `proxy_on_tick`: the period of [`Vm::tick_period`] has elapsed.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_tick(&mut self, host: &mut dyn Host) -> Result<(), Failure> {
        let root = self.plugin_context();
        self.call(host, root, |callbacks| &callbacks.tick, [root.number()]).map(|_| ())
    }

    /// Calls `proxy_on_queue_ready`: a queue that the guest registered has a new entry.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_queue_ready(&mut self, host: &mut dyn Host, queue: u32) -> Result<(), Failure> {
        let root = self.plugin_context();
        self.call(host, root, |callbacks| &callbacks.queue_ready, [root.number(), queue]).map(|_| ())
    }

    /// Calls `proxy_on_http_call_response`, exactly once for each accepted callout, with
    /// [`CalloutResponseSizes::default`] when it failed. The response is readable during this call only.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_http_call_response(
        &mut self,
        host: &mut dyn Host,
        call: u32,
        response: CalloutResponseSizes,
    ) -> Result<(), Failure> {
        let root = self.plugin_context();
        let arguments = [root.number(), call, response.headers, clamped(response.body), response.trailers];
        self.call(host, root, |callbacks| &callbacks.http_call_response, arguments).map(|_| ())
    }

    /// Calls `proxy_on_grpc_receive_initial_metadata`; `count` entries are readable during this call.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_grpc_initial_metadata(&mut self, host: &mut dyn Host, call: u32, count: u32) -> Result<(), Failure> {
        let root = self.plugin_context();
        let arguments = [root.number(), call, count];
        self.call(host, root, |callbacks| &callbacks.grpc_initial_metadata, arguments).map(|_| ())
    }

    /// Calls `proxy_on_grpc_receive`; a message of `size` bytes is readable during this call.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_grpc_receive(&mut self, host: &mut dyn Host, call: u32, size: usize) -> Result<(), Failure> {
        let root = self.plugin_context();
        let arguments = [root.number(), call, clamped(size)];
        self.call(host, root, |callbacks| &callbacks.grpc_receive, arguments).map(|_| ())
    }

    /// Calls `proxy_on_grpc_receive_trailing_metadata`; `count` entries are readable during this call.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_grpc_trailing_metadata(&mut self, host: &mut dyn Host, call: u32, count: u32) -> Result<(), Failure> {
        let root = self.plugin_context();
        let arguments = [root.number(), call, count];
        self.call(host, root, |callbacks| &callbacks.grpc_trailing_metadata, arguments).map(|_| ())
    }

    /// Calls `proxy_on_grpc_close`: the callout ended with this gRPC status.
    ///
    /// # Errors
    /// The guest fails.
    pub fn on_grpc_close(&mut self, host: &mut dyn Host, call: u32, status: u32) -> Result<(), Failure> {
        let root = self.plugin_context();
        let arguments = [root.number(), call, status];
        self.call(host, root, |callbacks| &callbacks.grpc_close, arguments).map(|_| ())
    }
}
