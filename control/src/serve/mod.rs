//! What faces the proxies: the stream on which they are told everything, and the modules that they fetch.

mod ads;
mod certificates;
mod grpc;
mod modules;
mod mutual;

pub use ads::{AdsServer, serve_ads, serve_mutual};
pub use certificates::CertificateSigner;
pub use modules::serve_modules;
