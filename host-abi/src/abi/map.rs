//! `MapKind`: the header map argument of hostcalls.

use crate::abi::wire_enum;

wire_enum! {
    /// A header map of the Proxy-Wasm ABI.
    MapKind {
        /// Headers of the stream's request.
        RequestHeaders = 0,
        /// Trailers of the stream's request.
        RequestTrailers = 1,
        /// Headers of the stream's response.
        ResponseHeaders = 2,
        /// Trailers of the stream's response.
        ResponseTrailers = 3,
        /// Initial metadata of a gRPC callout; readable during its callback.
        GrpcInitialMetadata = 4,
        /// Trailing metadata of a gRPC callout; readable during its callback.
        GrpcTrailingMetadata = 5,
        /// Headers of an HTTP callout's response; readable during its callback.
        CalloutHeaders = 6,
        /// Trailers of an HTTP callout's response; readable during its callback.
        CalloutTrailers = 7,
    }
}
