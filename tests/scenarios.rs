//! Runs every file in `scenarios/` as a test: route matches, and edits of requests and responses.

use std::path::Path;

/// Declares a test for each file, and a test that every file is listed.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                harness::run_scenario(&folder().join(concat!(stringify!($name), ".yaml"))).await;
            }
        )*

        #[test]
        fn every_file_is_run() {
            let run = [$(stringify!($name)),*];
            for entry in std::fs::read_dir(folder()).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                assert!(run.contains(&name.as_str()), "scenarios/{name}.yaml is not named in scenarios.rs");
            }
        }
    };
}

scenarios!(
    backend_filters,
    cors,
    grpc_replies,
    header_edits,
    hosts,
    matches,
    no_route,
    paths,
    redirects,
    rewrites,
    spellings,
    weights,
);

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"))
}
