//! `BufferKind`: the buffer argument of hostcalls.

use crate::abi::wire_enum;

wire_enum! {
    /// A buffer of the Proxy-Wasm ABI.
    BufferKind {
        /// The visible part of the request body.
        RequestBody = 0,
        /// The visible part of the response body.
        ResponseBody = 1,
        /// Data of a TCP connection from downstream.
        DownstreamData = 2,
        /// Data of a TCP connection from upstream.
        UpstreamData = 3,
        /// Body of an HTTP callout's response; readable during its callback.
        CalloutBody = 4,
        /// Message of a gRPC callout, without its gRPC frame; readable during its callback.
        GrpcMessage = 5,
        /// The VM's configuration. The VM serves it itself, without a `Host`.
        VmConfiguration = 6,
        /// The plugin's configuration. The VM serves it itself, without a `Host`.
        PluginConfiguration = 7,
        /// Arguments of `proxy_on_foreign_function`.
        CallData = 8,
    }
}

impl BufferKind {
    /// Returns whether guests may ever write to the buffer.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::RequestBody | Self::ResponseBody | Self::DownstreamData | Self::UpstreamData)
    }
}
