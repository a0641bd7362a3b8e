//! Servers for proxies: ADS, certificates, and the modules of filters.

mod ads;
mod ca_service;
mod ads_grpc;
mod modules;
mod mtls;
mod plaintext;

pub use ads::{AdsServer, MtlsServices, serve_ads, serve_mtls};
pub use ca_service::CaService;
pub use modules::serve_modules;
