//! Tests of the ends of connections over real sockets: idle time, age, number of requests, removed endpoints.

use std::num::NonZeroU32;
use std::time::Duration;

use weir_model::UpstreamProtocol;

use super::testing::*;
use super::*;
use crate::identity::Identity;

/// Sweeps of 500 ms in the default idle timeout of 4 s.
const IDLE_SWEEPS: u32 = 8;

#[test]
fn connections_end_with_their_last_request_and_their_age() {
    on_worker(async {
        for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
            let (address, seen) = endpoint(protocol, hello).await;
            let limited = |model: &mut weir_model::Cluster| {
                model.protocol = protocol;
                model.options.max_requests = NonZeroU32::new(2);
                model.options.max_age = Some(Duration::from_millis(1_200));
                model.options.idle_timeout = None;
            };
            let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&[address], limited));
            for closed in [0, 1, 1, 2] {
                read_response(send(&upstreams, &cluster, get_request(), NONE).await.unwrap()).await;
                upstreams.sweep(); // Closes what the pool has let go.
                wait_until(|| seen.closed.get() == closed).await;
            }
            read_response(send(&upstreams, &cluster, get_request(), NONE).await.unwrap()).await;
            for _ in 0..2 {
                assert_eq!(seen.closed.get(), 2, "{protocol:?}: the third connection is younger than 1.2 s");
                upstreams.sweep();
            }
            upstreams.sweep();
            wait_until(|| seen.closed.get() == 3).await;
        }
    });
}

#[test]
fn idle_connections_close_after_idle_sweeps() {
    on_worker(async {
        for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
            let (address, seen) = endpoint(protocol, hello).await;
            let (upstreams, cluster) =
                (Upstreams::new(Identity::empty()), cluster(&[address], |model| model.protocol = protocol));
            read_response(send(&upstreams, &cluster, get_request(), NONE).await.unwrap()).await;
            let busy = send(&upstreams, &cluster, get_request(), NONE).await.unwrap();
            for _ in 0..IDLE_SWEEPS * 2 {
                assert!(upstreams.sweep(), "a connection in use stays");
            }
            read_response(busy).await;
            for _ in 0..IDLE_SWEEPS {
                assert_eq!(seen.closed.get(), 0);
                upstreams.sweep();
            }
            wait_until(|| seen.closed.get() == 1 && !upstreams.sweep()).await;
        }
    });
}

#[test]
fn connections_close_with_endpoint_cluster_and_worker() {
    on_worker(async {
        let (one, seen) = endpoint(UpstreamProtocol::Http1, hello).await;
        let (two, others) = endpoint(UpstreamProtocol::Http1, hello).await;
        let (upstreams, first) = (Upstreams::new(Identity::empty()), cluster(&[one], |_| {}));
        read_response(send(&upstreams, &first, get_request(), NONE).await.unwrap()).await;
        first.set_endpoints(&models(&[two]));
        read_response(send(&upstreams, &first, get_request(), NONE).await.unwrap()).await;
        wait_until(|| seen.closed.get() == 1).await;

        let retained = [(first.model().name.clone(), std::sync::Arc::clone(&first))].into();
        upstreams.retain(&retained);
        read_response(send(&upstreams, &first, get_request(), NONE).await.unwrap()).await;
        assert_eq!(others.connections.get(), 1, "a retained cluster retains its connections");
        let busy = send(&upstreams, &first, get_request(), NONE).await.unwrap();
        upstreams.retain(&std::collections::HashMap::new());
        assert_eq!(read_response(busy).await.1, "hello", "a request in flight completes");
        wait_until(|| others.closed.get() == 1).await;

        read_response(send(&upstreams, &first, get_request(), NONE).await.unwrap()).await;
        upstreams.close_all();
        wait_until(|| others.closed.get() == 2).await;
    });
}
