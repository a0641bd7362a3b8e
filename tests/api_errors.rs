//! Errors of the control plane's API: each is a problem (RFC 9457), also those that no handler makes.

use harness::{Client, ControlPlane, full};
use http::Request;
use serde_json::Value;

/// Sends a request with the admin token, and returns status, media type and body of the response.
async fn send(control: &ControlPlane, method: &str, path: &str, body: Vec<u8>) -> (u16, String, Value) {
    let request = Request::builder().method(method).uri(format!("/api/v1/{path}"));
    let request = request.header("authorization", format!("Bearer {}", control.admin_token())).body(full(body));
    let response = Client::http1(control.api()).await.send(request.unwrap()).await;
    let media_type = response.headers.get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let problem = serde_json::from_str(&response.text()).unwrap_or_default();
    (response.status, media_type.unwrap_or_default(), problem)
}

#[tokio::test]
async fn every_error_of_the_api_is_a_problem() {
    let control = ControlPlane::start().await;
    let token = br#"{"name": "a", "role": "emperor"}"#.to_vec();
    for (method, path, body, expected) in [
        ("POST", "apply", vec![b'#'; 17 * 1024 * 1024], 413),
        ("POST", "apply", vec![b'a', 0xff], 400),
        ("POST", "apply", b"kind: [".to_vec(), 422),
        ("POST", "apply?dry_run=perhaps", Vec::new(), 400),
        ("POST", "apply?no_such_field=1", Vec::new(), 400),
        ("GET", "revisions?limit=many", Vec::new(), 400),
        ("GET", "revisions/first", Vec::new(), 400),
        ("GET", "revisions/7", Vec::new(), 404),
        ("GET", "resources/Foo/a/b", Vec::new(), 404),
        ("GET", "no/such/path", Vec::new(), 404),
        ("PATCH", "apply", Vec::new(), 405),
        ("POST", "tokens", token, 400),
        ("POST", "delete", b"{}".to_vec(), 400),
    ] {
        let (status, media_type, problem) = send(&control, method, path, body).await;
        let case = format!("{method} {path}: {status} {problem}");
        assert_eq!((status, media_type.as_str()), (expected, "application/problem+json"), "{case}");
        assert_eq!(problem["status"], expected, "{case}");
        assert!(problem["title"].is_string() && problem["type"].is_string(), "{case}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{case}");
        assert_eq!(problem["detail"], problem["error"], "{case}");
        assert_eq!(problem["refusals"].is_array(), expected == 422, "{case}");
    }
    let unauthorized = control.request_as(None, "GET", "status", "").await;
    assert_eq!(unauthorized.status, 401);
    assert_eq!(unauthorized.headers["content-type"], "application/problem+json");
    assert_eq!(unauthorized.headers["www-authenticate"], "Bearer");
    let description = control.get("openapi.json").await;
    let errors = &description["paths"]["/api/v1/apply"]["post"]["responses"]["default"]["content"];
    assert!(errors["application/problem+json"]["schema"].is_object(), "{errors}");
}
