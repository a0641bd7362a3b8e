//! Requests that switch protocols in a real Envoy beside Weir.

use harness::{RawConnection, RawOrigin, Resources, wait_until};

use crate::{ControlPlane, Proxies};

const REQUEST: &str = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: PROTOCOL\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test]
async fn both_proxies_tunnel_websockets_and_reject_other_protocols() {
    let origin = RawOrigin::start(|mut wire| async move {
        while let Some(head) = wire.try_head().await {
            if !head.to_ascii_lowercase().contains("upgrade: websocket") {
                wire.try_send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain").await;
                continue;
            }
            wire.try_send(SWITCH.as_bytes()).await;
            let Some(bytes) = wire.try_exactly(4).await else { return };
            wire.try_send(&bytes).await;
            return;
        }
    })
    .await;
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address()));
    let both = Proxies::start(&control, "DELTA_GRPC").await;
    both.wait_for("/", 200, "plain").await;
    for (name, address) in [("weir", both.weir.address().await), ("envoy", both.envoy.address())] {
        let mut wire = RawConnection::connect(address).await;
        wire.send(REQUEST.replace("PROTOCOL", "websocket")).await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{name}: {head}");
        wire.send("ping").await;
        assert_eq!(wire.exactly(4).await, b"ping", "{name}");
        wait_until("the end of the tunnel", async || wire.try_exactly(1).await.is_none().then_some(())).await;
        let mut wire = RawConnection::connect(address).await;
        wire.send(REQUEST.replace("PROTOCOL", "other/1")).await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{name}: {head}");
    }
    both.assert_no_rejection().await;
}
