//! What faces the proxies: the stream on which they are told everything, and the modules that they fetch.

mod ads;
mod modules;

pub use ads::{AdsServer, serve_ads};
pub use modules::serve_modules;
