//! `http1.preserveHeaderCase` of ClientTrafficPolicies and BackendTrafficPolicies: the upper and lower case of header names.

use std::net::SocketAddr;

use harness::{Codec, Filter, Origin, Proxy, RawConnection, RawOrigin, Resources};
use serde_json::json;

/// The headers of every request. `x-Twice` is sent in two forms.
const SENT: &str =
    "X-ID: 1\r\nHOST: a\r\nx-lower: 2\r\nX_Odd-nAME: 3\r\nx-Twice: 4\r\nX-tWICE: 5\r\nContent-LENGTH: 2\r\n";

/// Starts an origin whose responses have the names of the request's headers as their body, and headers of its own.
async fn naming_origin() -> RawOrigin {
    RawOrigin::start(|mut wire| async move {
        while let Some(head) = wire.try_head().await {
            if head.starts_with("POST ") {
                assert_eq!(wire.exactly(2).await, b"hi");
            }
            let names: Vec<&str> = head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
            let names = names.join(" ");
            let fields = format!("X-Own: 1\r\nSet-COOKIE: a\r\nset-cookie: b\r\nContent-Length: {}\r\n", names.len());
            wire.send(format!("HTTP/1.1 200 Fine\r\n{fields}\r\n{names}")).await;
        }
    })
    .await
}

/// Returns both policies, each with or without `preserveHeaderCase`.
fn policies(of_requests: bool, of_responses: bool) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {{name: case}}\n\
         spec: {{http1: {{preserveHeaderCase: {of_requests}}}}}\n---\n\
         apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: case}}\n\
         spec: {{targetRefs: [{{kind: Service, name: origin}}], http1: {{preserveHeaderCase: {of_responses}}}}}\n"
    )
}

/// Sends the request, and returns the names of the headers that the origin and the downstream receive.
async fn names(address: SocketAddr) -> [String; 2] {
    let mut wire = RawConnection::connect(address).await;
    wire.send(format!("POST / HTTP/1.1\r\n{SENT}\r\nhi")).await;
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let names: Vec<&str> = head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
    [body, names.join(" ")]
}

#[tokio::test]
async fn names_are_in_lower_case_by_default() {
    let origin = naming_origin().await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    for names in names(proxy.address().await).await {
        assert_eq!(names, names.to_ascii_lowercase());
    }
}

#[tokio::test]
async fn each_policy_preserves_names_of_its_direction() {
    let origin = naming_origin().await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    for (of_requests, of_responses) in [(true, false), (false, true), (true, true)] {
        let policies = policies(of_requests, of_responses);
        proxy.apply_and_wait(&Resources::forward_to(origin.address()).yaml(&policies)).await;
        let [request, response] = names(proxy.address().await).await;
        let lower =
            |names: &str, preserved: bool| if preserved { names.to_owned() } else { names.to_ascii_lowercase() };
        // `host` is first, and what the proxy adds is in lower case. A second form of a name is sent as the first.
        let sent = lower("HOST X-ID x-lower X_Odd-nAME x-Twice x-Twice Content-LENGTH", of_requests);
        assert!(request.starts_with(&sent), "{request}");
        let added = &request[sent.len()..];
        assert!(added.contains(" x-forwarded-for") && added == added.to_ascii_lowercase(), "{request}");
        let received = lower("X-Own Set-COOKIE Set-COOKIE Content-Length", of_responses);
        assert_eq!(response, format!("{received} date"));
    }
}

#[tokio::test]
async fn names_that_filters_change_have_the_form_that_was_sent() {
    let steps = json!({"request_headers": [
        {"do": "set", "name": "x-id", "value": "new"},
        {"do": "remove", "name": "x-lower"},
        {"do": "add", "name": "x-filter", "value": "1"},
    ]});
    let origin = naming_origin().await;
    let filter = Filter::test("changes", steps);
    let resources = Resources::forward_to(origin.address()).yaml(&policies(true, true)).filter(filter);
    let proxy = Proxy::start(&resources).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("GET / HTTP/1.1\r\nX-ID: 1\r\nHost: a\r\nx-lower: 1\r\n\r\n").await;
    let (head, names) = wire.response().await;
    let names: Vec<&str> = names.split(' ').collect();
    assert!(names.contains(&"X-ID") && names.contains(&"x-filter") && !names.contains(&"x-lower"), "{head}{names:?}");
}

#[tokio::test]
async fn names_have_no_case_beyond_http2() {
    let http2 = Origin::text("ok").await; // Records the names as `http` has them.
    let policies = policies(true, true);
    let proxy = Proxy::start(&Resources::forward_to(http2.address()).yaml(&policies)).await;
    assert_eq!(harness::Client::http2(proxy.address().await).await.get("/").await.status, 200);
    let http2 = Origin::echo(Codec::Http2).await;
    let proxy = Proxy::start(&Resources::forward_to_http2(http2.address()).yaml(&policies)).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(format!("POST / HTTP/1.1\r\n{SENT}\r\nhi")).await;
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body == "hi", "{head}{body}");
    assert_eq!(http2.last().header("x_odd-name"), Some("3"));
}
