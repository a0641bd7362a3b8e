//! Local replies to gRPC requests, as a gRPC client reads them, and deadlines of gRPC requests.

use std::net::SocketAddr;

use harness::{Codec, Filter, GrpcCaller, Origin, Proxy, RawOrigin, Resources, empty, grpc_origin, own_address};
use http::{HeaderValue, Request, Response};
use serde_json::json;
use tonic::Code;

const METHOD: &str = "/shop.Cart/Get";

async fn call(proxy: &Proxy) -> Result<bytes::Bytes, tonic::Status> {
    GrpcCaller::connect(proxy.address().await, "shop.example").await.call(METHOD).await
}

/// Starts an origin that never responds.
async fn silent(codec: Codec) -> Origin {
    Origin::start(codec, |_| std::future::pending::<Result<Response<harness::Body>, harness::BodyError>>()).await
}

fn forward_with_timeout(origin: SocketAddr, timeout: &str) -> Resources {
    let rules = format!("rules: [{{timeouts: {{request: {timeout}}}, backendRefs: [{{name: origin, port: 80}}]}}]");
    Resources::new().http2_service("origin", &[origin]).route("everything", &rules)
}

#[tokio::test]
async fn grpc_call_passes_through() {
    let origin = grpc_origin("hello").await;
    let proxy = Proxy::start(&Resources::forward_to_http2(origin.address())).await;
    assert_eq!(call(&proxy).await.unwrap(), "hello");
    assert_eq!(origin.last().path, METHOD);
}

#[tokio::test]
async fn failure_of_proxy_is_grpc_status() {
    let down = own_address();
    let origin = silent(Codec::Http2).await;
    let denied = "apiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: none}\nspec: {targetRefs: \
                  [{kind: Gateway, name: edge}], rules: [{name: all, action: Deny}]}\n";
    let direct = "rules: [{backendRefs: [{name: origin, port: 80, weight: 0}]}]";
    let cases = [
        ("route_not_found", Resources::new(), Code::Unimplemented, "NR"),
        ("upstream_connect_failed", Resources::forward_to_http2(down), Code::Unavailable, "UF"),
        ("request_timeout", forward_with_timeout(origin.address(), "100ms"), Code::Unavailable, "UT"),
        (
            "no_target",
            Resources::new().http2_service("origin", &[down]).route("everything", direct),
            Code::Unknown,
            "NC",
        ),
        ("auth_rule_all", Resources::forward_to_http2(origin.address()).yaml(denied), Code::PermissionDenied, ""),
    ];
    for (details, resources, code, flag) in cases {
        let proxy = Proxy::start(&resources).await;
        let status = call(&proxy).await.unwrap_err();
        assert_eq!(status.code(), code, "{details}: {status:?}");
        assert!(!status.message().is_empty() && !status.message().ends_with('\n'), "{details}: {status:?}");
        let line = proxy.access_log_for(METHOD).await;
        assert_eq!(line["status"], 200, "{line}");
        assert!(line["response_code_details"].as_str().unwrap().contains(details), "{line}");
        assert_eq!(line["response_flags"].as_str().unwrap_or_default(), flag, "{line}");
    }
}

#[tokio::test]
async fn reply_of_filter_is_grpc_status() {
    let origin = grpc_origin("hello").await;
    let with = |step: serde_json::Value| {
        let see =
            json!({"do": "copy", "from": "response", "name": ":status", "to": "response", "new_name": "seen-status"});
        let filter = Filter::test("reply", json!({"request_headers": [step], "response_headers": [see]}));
        Resources::forward_to_http2(origin.address()).filter(filter)
    };
    let text = json!({"do": "reply", "status": 429, "body": "100% of\nthe quota", "headers": [["x-limit", "7"]]});
    let proxy = Proxy::start(&with(text)).await;
    let status = call(&proxy).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "100% of\nthe quota"));
    assert_eq!(status.metadata().get("x-limit").unwrap(), "7");
    assert_eq!(status.metadata().get("seen-status").unwrap(), "200", "response filters see the encoded reply");
    let own = json!({"do": "grpc_reply", "message": "grün"});
    let proxy = Proxy::start(&with(own)).await;
    let status = call(&proxy).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "grün"));
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn reply_has_only_a_head_in_both_protocols() {
    let proxy = Proxy::start(&Resources::new()).await;
    for (kind, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        for codec in [Codec::Http1, Codec::Http2] {
            let mut client = harness::Client::connect(codec, proxy.address().await).await;
            let uri = format!("http://{}{METHOD}", proxy.address().await);
            let uri = if codec == Codec::Http1 { METHOD.to_owned() } else { uri };
            let request = Request::post(uri).header("host", "shop.example").header("content-type", kind);
            let response = client.send(request.body(empty()).unwrap()).await;
            if !expected {
                assert_eq!((response.status, response.header("grpc-status")), (404, None), "{kind}");
                continue;
            }
            assert_eq!((response.status, response.header("grpc-status")), (200, Some("12")), "{kind}");
            assert_eq!(response.header("content-type"), Some("application/grpc"));
            assert_eq!(response.header("grpc-message"), Some("no route matches the request (route_not_found)"));
            assert!(response.body.is_empty() && response.trailers.is_none());
        }
    }
}

#[tokio::test]
async fn redirect_of_grpc_request_stays() {
    let rules = "rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example}}]}]";
    let proxy = Proxy::start(&Resources::new().route("moved", rules)).await;
    let request = Request::post("/").header("host", "shop.example").header("content-type", "application/grpc");
    let response = proxy.client().await.send(request.body(empty()).unwrap()).await;
    assert_eq!((response.status, response.header("grpc-status")), (302, None));
    assert!(response.headers.contains_key("location"));
}

#[tokio::test]
async fn endpoint_that_closes_early_is_unavailable() {
    let origin = RawOrigin::start(|connection| async move { drop(connection) }).await;
    let proxy = Proxy::start(&Resources::forward_to_http2(origin.address())).await;
    assert_eq!(call(&proxy).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn grpc_timeout_is_deadline_of_request() {
    let origin = silent(Codec::Http2).await;
    let proxy = Proxy::start(&forward_with_timeout(origin.address(), "1h")).await;
    let mut caller = GrpcCaller::connect(proxy.address().await, "shop.example").await;
    let status = caller.call_with(METHOD, &[("grpc-timeout", "100m")]).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let line = proxy.access_log_for(METHOD).await;
    assert_eq!((&line["response_code_details"], &line["response_flags"]), (&json!("grpc_timeout"), &json!("UT")));
    assert_eq!(origin.last().header("grpc-timeout"), Some("100m"));
}

#[tokio::test]
async fn route_timeout_bounds_grpc_timeout() {
    let origin = silent(Codec::Http2).await;
    let proxy = Proxy::start(&forward_with_timeout(origin.address(), "100ms")).await;
    for timeout in ["1H", "nonsense", "999999999S"] {
        let mut caller = GrpcCaller::connect(proxy.address().await, "shop.example").await;
        let status = caller.call_with(METHOD, &[("grpc-timeout", timeout)]).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{timeout}: {status:?}");
    }
    let line = proxy.access_log_for(METHOD).await;
    assert_eq!(line["response_code_details"], "request_timeout");
}

#[tokio::test]
async fn grpc_timeout_of_other_request_has_no_effect() {
    let origin = silent(Codec::Http2).await;
    let proxy = Proxy::start(&forward_with_timeout(origin.address(), "400ms")).await;
    let request = Request::get("/plain").header("grpc-timeout", HeaderValue::from_static("1m"));
    let response = proxy.client().await.send(request.body(empty()).unwrap()).await;
    assert_eq!(response.status, 504);
    assert_eq!(proxy.access_log_for("/plain").await["response_code_details"], "request_timeout");
}
