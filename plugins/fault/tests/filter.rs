//! The compiled filter in the real proxy. `tests/faults.rs` has the tests that need several requests at once.

use serde_json::Value;
use weir_sdk::testing::{self, Error, Harness, Running};

fn start(config: &str) -> Result<Running, Error> {
    let module = testing::build_with_profile(env!("CARGO_MANIFEST_DIR"), "plugin")?;
    Harness::new(module).config(config).start()
}

#[test]
fn delayed_request_waits_and_is_forwarded() -> Result<(), Error> {
    let harness = start(r#"{"delay": {"fixedDelay": "300ms", "percentage": 100}}"#)?;
    for (path, body) in [("/empty", ""), ("/full", "a body")] {
        let response = harness.request("POST", path).body(body).send()?;
        let forwarded = response.upstream().map(|request| request.text());
        assert_eq!((response.status(), forwarded.as_deref()), (200, Some(body)));
        let duration_ms = || {
            let log = harness.log();
            let line = log.lines().find(|line| line.contains(path))?;
            serde_json::from_str::<Value>(line).ok()?["duration_ms"].as_f64()
        };
        harness.proxy().wait_until("the request is logged", |_| duration_ms().is_some())?;
        assert!(duration_ms().is_some_and(|duration| duration >= 300.0), "{:?}", duration_ms());
    }
    Ok(())
}

#[test]
fn aborted_request_is_not_forwarded() -> Result<(), Error> {
    let harness = start(
        r#"{"match": {"headers": [{"name": "x-user", "exact": "ann"}]},
            "abort": {"httpStatus": 429, "percentage": 100}}"#,
    )?;
    let aborted = harness.get("/").header("x-user", "ann").send()?;
    assert_eq!((aborted.status(), aborted.text().as_str()), (429, "aborted by the fault filter\n"));
    assert!(aborted.upstream().is_none());
    harness.proxy().wait_until("the abort is logged", |proxy| proxy.log().contains("fault_abort"))?;
    assert_eq!(harness.get("/").header("x-user", "bob").send()?.status(), 200);
    Ok(())
}

#[test]
fn invalid_configuration_is_rejected_and_the_last_one_serves() -> Result<(), Error> {
    let harness = start(r#"{"abort": {"httpStatus": 503, "percentage": 100}}"#)?;
    harness.reconfigure(r#"{"abort": {"httpStatus": 700, "percentage": 100}}"#)?;
    let error = "abort.httpStatus: must be from 200 to 599";
    harness.proxy().wait_until("the rejection is logged", |proxy| proxy.log().contains(error))?;
    assert_eq!(harness.get("/").send()?.status(), 503);
    Ok(())
}
