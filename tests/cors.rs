//! Cross-origin requests: the CORS filter of an HTTPRoute.

use harness::{ClientResponse, Filter, Origin, Proxy, Resources, empty};
use http::Request;
use serde_json::json;

const SHOP: &str = "https://shop.example";

/// Returns a rule with a CORS filter for the Service `origin`; `cors` has its fields as YAML in flow style.
fn rules(cors: &str) -> String {
    format!("rules: [{{filters: [{{type: CORS, cors: {{{cors}}}}}], backendRefs: [{{name: origin, port: 80}}]}}]")
}

async fn preflight(proxy: &Proxy, origin: &str) -> ClientResponse {
    let request = Request::options("/cart").header("origin", origin).header("access-control-request-method", "PUT");
    let request = request.header("access-control-request-headers", "x-a, x-b").body(empty()).unwrap();
    proxy.client().await.send(request).await
}

async fn get(proxy: &Proxy, origin: &str) -> ClientResponse {
    let request = Request::get("/cart").header("origin", origin).body(empty()).unwrap();
    proxy.client().await.send(request).await
}

fn cors_headers(response: &ClientResponse) -> Vec<String> {
    let names = ["allow-origin", "allow-credentials", "allow-methods", "allow-headers", "expose-headers", "max-age"];
    let line = |name: &&str| {
        let value = response.header(&format!("access-control-{name}"))?;
        Some(format!("{name}={value}"))
    };
    names.iter().filter_map(line).collect()
}

#[tokio::test]
async fn preflight_is_answered_before_filters() {
    let origin = Origin::text("cart").await;
    let deny = Filter::test("deny", json!({"request_headers": [{"do": "reply", "status": 401, "body": "no"}]}));
    let cors = format!(
        "allowOrigins: ['{SHOP}', 'https://*.example.org'], allowMethods: [GET, PUT], allowHeaders: [x-a, x-b], \
         exposeHeaders: [x-total], maxAge: 60"
    );
    let resources = Resources::new().service("origin", &[origin.address()]).route("everything", &rules(&cors));
    let proxy = Proxy::start(&resources.filter(deny)).await;
    for allowed in [SHOP, "https://a.b.example.org"] {
        let response = preflight(&proxy, allowed).await;
        assert_eq!(response.status, 200, "{allowed}");
        let expected = [
            &format!("allow-origin={allowed}"),
            "allow-methods=GET,PUT",
            "allow-headers=x-a,x-b",
            "expose-headers=x-total",
            "max-age=60",
        ];
        assert_eq!(cors_headers(&response), expected);
    }
    let line = proxy.access_log_for("/cart").await;
    assert_eq!(line["response_code_details"], "cors_preflight", "{line}");
    // The filter's own response can be read by scripts of the allowed origin.
    let response = get(&proxy, SHOP).await;
    assert_eq!(response.status, 401);
    assert_eq!(cors_headers(&response), [&format!("allow-origin={SHOP}"), "expose-headers=x-total"]);
    let response = preflight(&proxy, "https://evil.example").await;
    assert_eq!((response.status, cors_headers(&response).len()), (200, 0));
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn wildcards_are_echoed_for_credentials() {
    let origin = Origin::text("cart").await;
    let all = "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], exposeHeaders: ['*']";
    for (credentials, expected) in [
        (
            false,
            vec![
                "allow-origin=https://shop.example",
                "allow-methods=*",
                "allow-headers=*",
                "expose-headers=*",
                "max-age=5",
            ],
        ),
        (
            true,
            vec![
                "allow-origin=https://shop.example",
                "allow-credentials=true",
                "allow-methods=PUT",
                "allow-headers=x-a, x-b",
                "max-age=5",
            ],
        ),
    ] {
        let rules = rules(&format!("{all}, allowCredentials: {credentials}"));
        let resources = Resources::new().service("origin", &[origin.address()]).route("everything", &rules);
        let proxy = Proxy::start(&resources).await;
        assert_eq!(cors_headers(&preflight(&proxy, SHOP).await), expected);
        let response = get(&proxy, SHOP).await;
        assert_eq!(response.text(), "cart");
        assert_eq!(response.header("access-control-allow-origin"), Some(SHOP));
    }
}

#[tokio::test]
async fn request_without_origin_or_of_another_origin_has_no_cors_headers() {
    let origin = Origin::text("cart").await;
    let rules = rules(&format!("allowOrigins: ['{SHOP}']"));
    let resources = Resources::new().service("origin", &[origin.address()]).route("everything", &rules);
    let proxy = Proxy::start(&resources).await;
    for response in [proxy.get("/cart").await, get(&proxy, "https://evil.example").await] {
        assert_eq!((response.text().as_str(), cors_headers(&response).len()), ("cart", 0));
    }
    // OPTIONS without a requested method is a request like any other.
    let request = Request::options("/cart").header("origin", SHOP).body(empty()).unwrap();
    let response = proxy.client().await.send(request).await;
    assert_eq!((response.text().as_str(), cors_headers(&response).len()), ("cart", 1));
}
