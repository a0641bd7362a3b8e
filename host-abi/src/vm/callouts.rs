//! The callbacks of the plugin context: timer, queues, and answers to callouts.

use crate::failure::Failure;
use crate::host::Host;
use crate::vm::Vm;
use crate::vm::http::clamped;

/// The size of a callout's response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CalloutResponse {
    /// Entries in the callout's headers; 0 when the callout failed.
    pub headers: u32,
    /// Bytes in the callout's body.
    pub body: usize,
    /// Entries in the callout's trailers.
    pub trailers: u32,
}

impl Vm {
    /// `proxy_on_tick`: the period of [`Vm::tick_period`] has passed.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_tick(&mut self, host: &mut dyn Host) -> Result<(), Failure> {
        let root = self.root_context();
        self.call(host, root, |callbacks| &callbacks.tick, [root.number()]).map(|_| ())
    }

    /// `proxy_on_queue_ready`: a queue that the guest registered has got an entry.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_queue_ready(&mut self, host: &mut dyn Host, queue: u32) -> Result<(), Failure> {
        let root = self.root_context();
        self.call(host, root, |callbacks| &callbacks.queue_ready, [root.number(), queue]).map(|_| ())
    }

    /// `proxy_on_http_call_response`: exactly once for each accepted callout; [`CalloutResponse::default`] when it
    /// failed. The response is readable during this call only.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_http_call_response(
        &mut self,
        host: &mut dyn Host,
        call: u32,
        response: CalloutResponse,
    ) -> Result<(), Failure> {
        let root = self.root_context();
        let arguments = [root.number(), call, response.headers, clamped(response.body), response.trailers];
        self.call(host, root, |callbacks| &callbacks.http_call_response, arguments).map(|_| ())
    }

    /// `proxy_on_foreign_function`: `size` bytes are readable in the call data.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_foreign_function(&mut self, host: &mut dyn Host, function: u32, size: usize) -> Result<(), Failure> {
        let root = self.root_context();
        let arguments = [root.number(), function, clamped(size)];
        self.call(host, root, |callbacks| &callbacks.foreign_function, arguments).map(|_| ())
    }

    /// `proxy_on_grpc_receive_initial_metadata`: `count` entries are readable during this call.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_grpc_initial_metadata(&mut self, host: &mut dyn Host, call: u32, count: u32) -> Result<(), Failure> {
        let root = self.root_context();
        let arguments = [root.number(), call, count];
        self.call(host, root, |callbacks| &callbacks.grpc_initial_metadata, arguments).map(|_| ())
    }

    /// `proxy_on_grpc_receive`: a message of `size` bytes is readable during this call.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_grpc_receive(&mut self, host: &mut dyn Host, call: u32, size: usize) -> Result<(), Failure> {
        let root = self.root_context();
        let arguments = [root.number(), call, clamped(size)];
        self.call(host, root, |callbacks| &callbacks.grpc_receive, arguments).map(|_| ())
    }

    /// `proxy_on_grpc_receive_trailing_metadata`: `count` entries are readable during this call.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_grpc_trailing_metadata(&mut self, host: &mut dyn Host, call: u32, count: u32) -> Result<(), Failure> {
        let root = self.root_context();
        let arguments = [root.number(), call, count];
        self.call(host, root, |callbacks| &callbacks.grpc_trailing_metadata, arguments).map(|_| ())
    }

    /// `proxy_on_grpc_close`: the callout ended with this gRPC status.
    ///
    /// # Errors
    /// When the guest fails.
    pub fn on_grpc_close(&mut self, host: &mut dyn Host, call: u32, status: u32) -> Result<(), Failure> {
        let root = self.root_context();
        let arguments = [root.number(), call, status];
        self.call(host, root, |callbacks| &callbacks.grpc_close, arguments).map(|_| ())
    }
}
