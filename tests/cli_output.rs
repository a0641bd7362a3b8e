//! Output of the `weir` tool, and the log of the control plane, for texts that try to be more than one line, or to
//! control the terminal.

use bytes::{Buf, Bytes};
use harness::{Client, ControlPlane, Origin, Resources, body_channel, wait_until, with_deadline};
use http::Request;
use http_body_util::BodyExt;
use prost::Message;
use weir_xds::proto::{DiscoveryRequest, DiscoveryResponse, Node, Status};

/// The name of a client that forges a line of `weir proxies`.
const NODE: &str = "a\nb  FAKE  up to date\u{1b}[2J\u{9b}1m";

/// The reason of its rejections.
const REASON: &str = "red\u{1b}[31m\nb  FAKE";

/// Returns a gRPC message: the flag for no compression, the length, and the bytes.
fn message(request: &DiscoveryRequest) -> Bytes {
    let bytes = request.encode_to_vec();
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &bytes].concat().into()
}

/// Reads the first message of a gRPC response.
async fn first_message(body: &mut hyper::body::Incoming) -> DiscoveryResponse {
    let mut received = Vec::new();
    loop {
        let frame = with_deadline("a frame", body.frame()).await.expect("the stream is open").unwrap();
        received.extend(frame.into_data().expect("a message"));
        if let Some((head, rest)) = received.split_first_chunk::<5>() {
            let length = usize::try_from((&head[1..]).get_u32()).unwrap();
            if rest.len() >= length {
                return DiscoveryResponse::decode(&rest[..length]).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn foreign_texts_are_escaped() {
    let origin = Origin::text("origin").await;
    let control = ControlPlane::start().await;
    control.write("r.yaml", Resources::forward_to(origin.address()).text());
    let (is_good, _, errors) = control.weir(&["apply", "-f", "r.yaml", "-m", "first\nrevision 9\u{1b}[1m"]).await;
    assert!(is_good, "{errors}");

    let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let node = Some(Node { id: NODE.to_owned(), ..Node::default() });
    let subscribe = DiscoveryRequest { node, type_url, ..DiscoveryRequest::default() };
    let (sender, body) = body_channel();
    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
    let request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    let mut client = Client::http2(control.xds()).await;
    assert!(sender.data(message(&subscribe)).await);
    let mut responses = client.send_head(request.body(body).unwrap()).await.into_body();
    let response_nonce = first_message(&mut responses).await.nonce;
    let error_detail = Some(Status { message: REASON.to_owned(), ..Status::default() });
    assert!(sender.data(message(&DiscoveryRequest { response_nonce, error_detail, ..subscribe })).await);
    wait_until("the rejection", async || control.log().contains("NACK: ").then_some(())).await;

    for arguments in [
        &["proxies"][..],
        &["status"],
        &["get"],
        &["history"],
        &["history", "1"],
        &["proxies", "-o", "yaml"],
        &["status", "-o", "json"],
    ] {
        let (is_good, output, errors) = control.weir(arguments).await;
        assert!(is_good, "{errors}");
        let is_raw = |character: char| character.is_control() && character != '\n';
        assert!(!output.contains(is_raw), "{arguments:?}: {output:?}");
        let is_forged = |line: &str| line.starts_with("b  FAKE") || line.starts_with("revision 9");
        assert!(!output.lines().any(is_forged), "{arguments:?}: {output}");
    }
    let (_, table, _) = control.weir(&["proxies"]).await;
    assert!(table.contains("a\\nb  FAKE  up to date\\u{1b}[2J\\u{9b}1m"), "{table}");
    let (_, json, _) = control.weir(&["proxies", "-o", "json"]).await;
    let proxies: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(proxies[0]["node"], NODE, "JSON has the text itself");
    let log = control.log();
    assert!(log.contains("NACK: red\\u{1b}[31m\\nb  FAKE") && !log.contains('\u{1b}'), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("b  FAKE")), "{log}");

    // Errors have foreign texts as well: a name in a file, and the name of the file.
    control.write("evil\u{1b}[1m.yaml", "kind: \"Foo\\e[2J\"\napiVersion: v1\n");
    let (is_good, output, errors) = control.weir(&["apply", "-f", "evil\u{1b}[1m.yaml"]).await;
    assert!(!is_good && errors.contains("evil\\u{1b}[1m.yaml:1:"), "{output}{errors}");
    assert!(!errors.contains('\u{1b}'), "{errors:?}");
    drop(sender);
}
