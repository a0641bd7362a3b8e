//! The compiled filter in the real proxy.

use weir_sdk::testing::{self, Error, Harness};

const CONFIG: &str = r#"{"closed": ["/checkout"], "message": "back at noon"}"#;

#[test]
fn closed_path_is_rejected_and_others_pass() -> Result<(), Error> {
    let module = testing::build(env!("CARGO_MANIFEST_DIR"))?;
    let harness = Harness::new(module).config(CONFIG).start()?;

    for path in ["/checkout", "/checkout/pay", "/checkout?now"] {
        let answer = harness.get(path).send()?;
        assert_eq!(answer.status(), 503, "{path}");
        assert_eq!(answer.text(), "back at noon\n");
        assert_eq!(answer.header("retry-after").as_deref(), Some("600"));
        assert!(answer.upstream().is_none(), "{path} must not reach the origin");
    }
    for path in ["/", "/checkouts"] {
        let answer = harness.get(path).send()?;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.header("x-maintenance").as_deref(), Some("/checkout"));
        assert!(answer.upstream().is_some());
    }
    assert!(harness.log().contains("is closed for maintenance"), "{}", harness.log());
    Ok(())
}

#[test]
fn invalid_configuration_is_rejected_with_the_reason() -> Result<(), Error> {
    let module = testing::build(env!("CARGO_MANIFEST_DIR"))?;
    let started = Harness::new(module).config(r#"{"closed": ["/checkout"], "massage": "back at noon"}"#).start();
    let error = started.expect_err("must be rejected").to_string();
    assert!(error.contains("unknown field `massage`"), "{error}");
    Ok(())
}
