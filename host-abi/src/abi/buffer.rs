//! `BufferKind`: which run of bytes a hostcall speaks of.

use crate::abi::wire_enum;

wire_enum! {
    /// A buffer a guest can name.
    BufferKind {
        /// What is visible of the request's body.
        RequestBody = 0,
        /// What is visible of the response's body.
        ResponseBody = 1,
        /// Bytes of a TCP connection from downstream.
        DownstreamData = 2,
        /// Bytes of a TCP connection from upstream.
        UpstreamData = 3,
        /// Body of an HTTP callout's response; readable during its callback.
        CalloutBody = 4,
        /// Message of a gRPC callout, without its frame; readable during its callback.
        GrpcMessage = 5,
        /// The VM's configuration. Answered by the VM, never asked of a `Host`.
        VmConfiguration = 6,
        /// The plugin's configuration. Answered by the VM, never asked of a `Host`.
        PluginConfiguration = 7,
        /// Arguments of `proxy_on_foreign_function`.
        CallData = 8,
    }
}

impl BufferKind {
    /// Whether a guest may write to the buffer at all.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::RequestBody | Self::ResponseBody | Self::DownstreamData | Self::UpstreamData)
    }
}
