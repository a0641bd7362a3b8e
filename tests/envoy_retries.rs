//! Retries in a real Envoy beside Weir, from the same HTTPRoute.

use harness::{Client, Codec, Origin, Resources, full, wait_until};
use http::{Method, Request, Response, StatusCode};

use crate::{ControlPlane, Proxies};

async fn origin(status: StatusCode) -> Origin {
    Origin::start(Codec::Http1, move |_| async move {
        let mut response = Response::new(full("body"));
        *response.status_mut() = status;
        Ok(response)
    })
    .await
}

#[tokio::test]
async fn both_proxies_retry_idempotent_requests_at_another_endpoint() {
    let (bad, good) = (origin(StatusCode::SERVICE_UNAVAILABLE).await, origin(StatusCode::OK).await);
    let mut control = ControlPlane::start().await;
    let rules = "rules: [{retry: {attempts: 2, backoff: 2ms, codes: [503]}, backendRefs: [{name: web, port: 80}]}, \
                 {matches: [{path: {value: /named}, method: POST}], retry: {attempts: 2, codes: [503]}, backendRefs: \
                 [{name: web, port: 80}]}]";
    control.apply(&Resources::new().service("web", &[bad.address(), good.address()]).route("web", rules));
    let both = Proxies::start(&control, "DELTA_GRPC").await;
    for (name, address) in [("weir", both.weir.address().await), ("envoy", both.envoy.address())] {
        let status = async |method: &Method, path: &str| {
            let request = Request::builder().method(method).uri(path).header("host", "a").body(full("x")).unwrap();
            Client::http1(address).await.send(request).await.status
        };
        wait_until(&format!("the route in {name}"), async || {
            (status(&Method::GET, "/").await == StatusCode::OK).then_some(())
        })
        .await;
        let before = bad.count();
        for index in 0..10 {
            assert_eq!(status(&Method::PUT, &format!("/{index}")).await, 200, "{name}");
            assert_eq!(status(&Method::POST, &format!("/named/{index}")).await, 200, "{name}");
        }
        assert!(bad.count() > before, "{name}: no request was retried");
        let before = (bad.count(), good.count());
        let mut failed = 0;
        for index in 0..10 {
            failed += usize::from(status(&Method::POST, &format!("/{index}")).await == StatusCode::SERVICE_UNAVAILABLE);
        }
        let sent = (bad.count() - before.0, good.count() - before.1);
        assert_eq!(sent, (failed, 10 - failed), "{name}: a POST reached two endpoints");
        assert!(failed > 0, "{name}");
    }
    both.assert_no_rejection().await;
}

#[tokio::test]
async fn both_proxies_eject_an_endpoint_that_fails() {
    let (bad, good) = (origin(StatusCode::SERVICE_UNAVAILABLE).await, origin(StatusCode::OK).await);
    let mut control = ControlPlane::start().await;
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: web}\nspec: {targetRefs: \
                  [{kind: Service, name: web}], outlierDetection: {consecutiveErrors: 3, ejectionTime: 1h, \
                  maxEjectionTime: 1h}}\n";
    let resources = Resources::new().service("web", &[bad.address(), good.address()]).yaml(policy);
    control.apply(&resources.route("web", "rules: [{backendRefs: [{name: web, port: 80}]}]"));
    let both = Proxies::start(&control, "DELTA_GRPC").await;
    for (name, address) in [("weir", both.weir.address().await), ("envoy", both.envoy.address())] {
        let get = async || Client::http1(address).await.get("/").await.status;
        wait_until(&format!("the route in {name}"), async || (get().await == StatusCode::OK).then_some(())).await;
        for _ in 0..20 {
            get().await;
        }
        for _ in 0..10 {
            assert_eq!(get().await, 200, "{name}: the failing endpoint is ejected");
        }
    }
    both.assert_no_rejection().await;
}
