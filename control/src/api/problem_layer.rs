//! The one place that gives every error response the form of [`ApiError`]: also the rejections of axum's extractors and
//! of its router, which are plain text.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::response::{ApiError, PROBLEM_JSON};
use crate::limits::MAX_ERROR_TEXT_BYTES;
use crate::net::BODY_TIMEOUT_REASON;

/// Runs a handler, and converts its error response.
pub(crate) async fn convert_errors(request: Request, next: Next) -> Response {
    convert(next.run(request).await).await
}

async fn convert(response: Response) -> Response {
    let status = response.status();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == PROBLEM_JSON);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_ERROR_TEXT_BYTES).await.unwrap_or_default();
    let (status, detail) = describe(status, String::from_utf8_lossy(&text).trim());
    let converted = ApiError::new(status, detail).into_response();
    // The other headers stay: `allow` of 405.
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
        parts.headers.remove(name);
    }
    let (mut converted_parts, body) = converted.into_parts();
    converted_parts.headers.extend(parts.headers);
    converted_parts.extensions = parts.extensions;
    Response::from_parts(converted_parts, body)
}

/// Returns the status and the detail for a text of axum.
fn describe(status: StatusCode, text: &str) -> (StatusCode, String) {
    match status {
        _ if text.ends_with(BODY_TIMEOUT_REASON) => {
            (StatusCode::REQUEST_TIMEOUT, "the body of the request was not complete in time; send it again".to_owned())
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            (status, "the body of the request is too large; send it in several requests".to_owned())
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            (status, "the path does not have this method; /api/v1/openapi.json lists all operations".to_owned())
        }
        StatusCode::INTERNAL_SERVER_ERROR => (status, "this failed by a bug of weir-control; see its log".to_owned()),
        _ if text.is_empty() => (status, status.canonical_reason().unwrap_or("an error without a reason").to_owned()),
        _ => (status, text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::extract::{DefaultBodyLimit, Path, Query};
    use axum::middleware::from_fn;
    use axum::routing;
    use serde_json::{Value, json};
    use tower_service::Service;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Limit {
        limit: u8,
    }

    /// Sends a request to a router with one route, and returns status, content type and body of the response.
    async fn call(method: &str, uri: &str, body: Body) -> (u16, String, Value) {
        let handler = async |Path(_): Path<u64>, Query(Limit { limit }): Query<Limit>, body: String| {
            (limit > 9).then_some(body).ok_or(ApiError::conflict("too small"))
        };
        let mut router = Router::new()
            .route("/a/{id}", routing::post(handler))
            .route("/bug", routing::get(async || StatusCode::INTERNAL_SERVER_ERROR))
            .layer(DefaultBodyLimit::max(10))
            .layer(from_fn(convert_errors));
        let request = http::Request::builder().method(method).uri(uri).body(body).unwrap();
        let response = router.call(request).await.unwrap();
        let status = response.status().as_u16();
        let content_type = response.headers().get(header::CONTENT_TYPE).unwrap().to_str().unwrap().to_owned();
        let bytes = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, content_type, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    #[tokio::test]
    async fn every_error_is_a_problem() {
        let late = Body::from_stream(tokio_stream::once(Err::<&str, _>(BODY_TIMEOUT_REASON)));
        for (method, uri, body, expected) in [
            ("POST", "/a/1?limit=10", Body::from("01234567890"), 413),
            ("POST", "/a/1?limit=x", Body::empty(), 400),
            ("POST", "/a/1", Body::empty(), 400),
            ("POST", "/a/x?limit=10", Body::empty(), 400),
            ("POST", "/a/1?limit=10", Body::from(vec![0xff]), 400),
            ("POST", "/a/1?limit=1", Body::empty(), 409),
            ("GET", "/a/1", Body::empty(), 405),
            ("GET", "/b", Body::empty(), 404),
            ("GET", "/bug", Body::empty(), 500),
            ("POST", "/a/1?limit=10", late, 408),
        ] {
            let (status, content_type, problem) = call(method, uri, body).await;
            let case = format!("{method} {uri}: {problem}");
            assert_eq!((status, content_type.as_str()), (expected, PROBLEM_JSON), "{case}");
            assert_eq!(problem["status"], expected, "{case}");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 5), "{case}");
            assert_eq!(problem["error"], problem["detail"], "{case}");
            assert_eq!(problem["type"], json!("about:blank"), "{case}");
            assert!(problem["title"].is_string(), "{case}");
        }
        let (status, content_type, _) = call("POST", "/a/1?limit=10", Body::from("abc")).await;
        assert_eq!((status, content_type.as_str()), (200, "text/plain; charset=utf-8"));
    }
}
