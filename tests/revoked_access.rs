//! Changes of AuthorizationPolicies that take away access: streams in flight that are denied now end, others go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use harness::{
    BodySender, Client, Codec, ControlPlane, MeshPair, Origin, Proxy, Resources, body_channel, with_deadline,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

/// The documented 5 s, and as much for a busy machine.
const MAX_TIME: Duration = Duration::from_secs(10);

/// An origin whose responses send an event on request, and have no end.
struct EventOrigin {
    origin: Origin,
    senders: Arc<Mutex<HashMap<String, BodySender>>>,
}

impl EventOrigin {
    async fn start() -> Self {
        let senders = Arc::new(Mutex::new(HashMap::new()));
        let by_path = Arc::clone(&senders);
        let origin = Origin::start(Codec::Http1, move |request: Request<Incoming>| {
            let (sender, body) = body_channel();
            by_path.lock().insert(request.uri().path().to_owned(), sender);
            async { Ok(Response::new(body)) }
        })
        .await;
        Self { origin, senders }
    }

    fn sender(&self, path: &str) -> BodySender {
        self.senders.lock()[path].clone()
    }

    /// Returns resources that forward everything here, without a request timeout.
    fn resources(&self) -> Resources {
        Resources::new()
            .service("origin", &[self.origin.address()])
            .route("everything", "rules: [{timeouts: {request: 0s}, backendRefs: [{name: origin, port: 80}]}]")
    }

    /// Opens a stream, and reads its first event.
    async fn open(&self, client: Client, request: Request<harness::Body>) -> EventStream {
        let (path, mut client) = (request.uri().path().to_owned(), client);
        let response = client.send_head(request).await;
        assert_eq!(response.status(), 200, "{path}");
        let mut stream = EventStream { path, response, _client: client };
        self.assert_goes_on(&mut stream).await;
        stream
    }

    /// Sends an event and reads it.
    async fn assert_goes_on(&self, stream: &mut EventStream) {
        assert!(self.sender(&stream.path).data("event").await, "{}: the origin's stream has ended", stream.path);
        let frame = with_deadline(&stream.path, stream.response.body_mut().frame()).await;
        let bytes = frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
        assert_eq!(bytes.as_deref(), Some(&b"event"[..]), "{}", stream.path);
    }

    /// Waits until the stream is reset on both sides. Returns its line of the access log.
    async fn assert_ended(&self, proxy: &Proxy, mut stream: EventStream) -> serde_json::Value {
        let frame = with_deadline(&stream.path, stream.response.body_mut().frame()).await;
        assert!(matches!(frame, Some(Err(_))), "{}: {frame:?}", stream.path);
        with_deadline("the end of the origin's stream", self.sender(&stream.path).closed()).await;
        let line = proxy.access_log_for(&stream.path).await;
        assert_eq!(line["response_code_details"], "access_revoked", "{line}");
        line
    }
}

struct EventStream {
    path: String,
    response: Response<Incoming>,
    _client: Client,
}

fn policy(spec: &str) -> String {
    format!("apiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: guard}}\nspec: {{{spec}}}\n")
}

fn get(path: &str, header: Option<(&str, &str)>) -> Request<harness::Body> {
    let request = Request::get(path);
    let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    request.body(harness::empty()).unwrap()
}

/// Opens a stream with each header, changes the policy, and checks that only the second stream ends.
async fn check_second_ends(codec: Codec, headers: [(&str, &str); 2], before: &str, after: &str) {
    let origin = EventOrigin::start().await;
    let proxy = Proxy::start(&origin.resources().yaml(&policy(before))).await;
    let client = async || Client::connect(codec, proxy.address().await).await;
    let mut allowed = origin.open(client().await, get("/allowed", Some(headers[0]))).await;
    let denied = origin.open(client().await, get("/denied", Some(headers[1]))).await;
    proxy.apply_and_wait(&origin.resources().yaml(&policy(after))).await;
    let changed = Instant::now();
    let line = origin.assert_ended(&proxy, denied).await;
    assert_eq!(line["filter"], json!("default/access:guard"), "{line}");
    assert!(changed.elapsed() < MAX_TIME, "{:?}", changed.elapsed());
    origin.assert_goes_on(&mut allowed).await;
    // A later change with equal policies ends none.
    proxy.apply_and_wait(&origin.resources().service("other", &[]).yaml(&policy(after))).await;
    assert_eq!(client().await.get("/new").await.status / 100, 4);
    origin.assert_goes_on(&mut allowed).await;
}

#[tokio::test]
async fn changed_rule_ends_streams_that_it_denies() {
    let rule = |team: &str| format!("{{name: {team}, action: Allow, headers: [{{name: x-team, exact: {team}}}]}}");
    let (before, after) = (format!("rules: [{}, {}]", rule("a"), rule("b")), format!("rules: [{}]", rule("a")));
    for codec in [Codec::Http1, Codec::Http2] {
        check_second_ends(codec, [("x-team", "a"), ("x-team", "b")], &before, &after).await;
    }
}

/// The policy removes the key from the forwarded request, so the decision needs the request as it was received.
#[tokio::test]
async fn removed_credential_ends_its_streams() {
    let key = |id: &str| format!("{{id: {id}, key: {id}-k3y}}");
    let keys = |keys: &str| format!("credentials: {{apiKeys: {{keys: [{keys}]}}}}");
    let (before, after) = (keys(&format!("{}, {}", key("me"), key("you"))), keys(&key("me")));
    check_second_ends(Codec::Http2, [("x-api-key", "me-k3y"), ("x-api-key", "you-k3y")], &before, &after).await;
}

#[tokio::test]
async fn first_policy_of_route_ends_streams_that_it_denies() {
    let origin = EventOrigin::start().await;
    let proxy = Proxy::start(&origin.resources()).await;
    let apply = async |spec: &str| proxy.apply_and_wait(&origin.resources().yaml(&policy(spec))).await;
    let mut open = origin.open(proxy.client().await, get("/open", Some(("x-team", "a")))).await;
    let shut = origin.open(proxy.client().await, get("/shut", Some(("x-team", "a")))).await;
    // A dry run ends none.
    let deny = "rules: [{name: shut, action: Deny, paths: [{prefix: /shut}]}]";
    apply(&format!("mode: DryRun, {deny}")).await;
    let mut late = origin.open(proxy.client().await, get("/late", Some(("x-team", "a")))).await;
    origin.assert_goes_on(&mut open).await;
    // Rules on paths are decided on without the headers.
    apply(deny).await;
    origin.assert_ended(&proxy, shut).await;
    origin.assert_goes_on(&mut open).await;
    // Rules on headers are not, so the stream that began before the first policy ends, and the other is decided on.
    apply("rules: [{name: team, action: Allow, headers: [{name: x-team, exact: a}]}]").await;
    let changed = Instant::now();
    origin.assert_ended(&proxy, open).await;
    assert!(changed.elapsed() < MAX_TIME, "{:?}", changed.elapsed());
    origin.assert_goes_on(&mut late).await;
}

#[tokio::test]
async fn request_whose_response_has_not_begun_is_answered() {
    let origin = Origin::start(Codec::Http1, |_| async { std::future::pending().await }).await;
    let resources = || Resources::forward_to(origin.address());
    let rule = |method: &str| policy(&format!("rules: [{{name: one, action: Allow, methods: [{method}]}}]"));
    let proxy = Proxy::start(&resources().yaml(&rule("GET"))).await;
    let mut client = proxy.client().await;
    let (response, ()) = tokio::join!(client.get("/waiting"), async {
        origin.wait_for(1).await;
        proxy.apply_and_wait(&resources().yaml(&rule("PUT"))).await;
    });
    assert_eq!(response.status, 403, "{}", response.text());
    assert_eq!(proxy.access_log_for("/waiting").await["response_code_details"], "access_revoked");
}

#[tokio::test]
async fn workload_whose_access_is_taken_away_loses_its_streams() {
    let origin = EventOrigin::start().await;
    let control = ControlPlane::start().await;
    // `MeshPair` waits for a whole response.
    let text = Origin::text("here").await;
    let mesh = MeshPair::start(&control, text.address()).await;
    let service = Resources::empty().service("origin", &[origin.origin.address()]);
    control.apply(&service).await;
    let only = |account: &str| {
        let rule = format!("{{name: callers, action: Allow, principals: [{{serviceAccount: {account}}}]}}");
        Resources::empty().yaml(&policy(&format!("targetRefs: [{{kind: Gateway, name: inner}}], rules: [{rule}]")))
    };
    control.apply(&only("edge")).await;
    harness::wait_until("the new endpoint", async || {
        let page = mesh.inner.page("/config_dump").await.text();
        let address = origin.origin.address().to_string();
        (page.contains(&address) && page.contains("access:guard")).then_some(())
    })
    .await;
    let stream = origin.open(mesh.edge.client().await, get("/stream", None)).await;
    control.apply(&only("other")).await;
    origin.assert_ended(&mesh.inner, stream).await;
}
