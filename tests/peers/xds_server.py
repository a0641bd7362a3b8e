"""A small xDS server without code of Weir, written from the documentation of Envoy's xDS protocol with the protobuf
classes of the Python package `xds-protos`. It serves delta ADS to one proxy at a time.

Standard output, one JSON object per line: first {"port": N}, then each request of a proxy.
Standard input, one JSON object per line: {"put": {NAME: RESOURCE, ...}} with resources in protobuf's JSON form, each with its
"@type"; {"remove": {TYPE_URL: [NAME, ...]}}; {"close": true} closes the open stream.
"""

import json
import queue
import sys
import threading
from concurrent import futures

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.wasm.v3 import wasm_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import any_pb2, json_format

# Imported to register their types for JSON with "@type".
KNOWN = [cluster_pb2, extension_pb2, endpoint_pb2, listener_pb2, route_pb2, router_pb2, wasm_pb2,
         http_connection_manager_pb2, tls_pb2, http_protocol_options_pb2]

PREFIX = "type.googleapis.com/"
# Secrets before clusters, which are not ready without them; clusters before endpoints, listeners before routes (https://www.envoyproxy.io/docs, "Eventual consistency").
ORDER = [PREFIX + name for name in (
    "envoy.extensions.transport_sockets.tls.v3.Secret",
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.config.core.v3.TypedExtensionConfig",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
)]

lock = threading.Lock()
resources = {}  # type URL -> name -> (version, Any)
count = 0
streams = []


def print_json(message):
    with lock:
        print(json.dumps(message), flush=True)


class Stream:
    """The subscriptions of one proxy, and the resource versions that it has."""

    def __init__(self):
        self.events = queue.Queue()
        self.subscribed = {}  # type URL -> set of names, or None for everything
        self.sent = {}  # type URL -> name -> version
        self.nonce = 0

    def on_request(self, request):
        url = request.type_url
        subscribe = list(request.resource_names_subscribe)
        print_json({
            "type": url.rsplit(".", 1)[-1],
            "node": request.node.id,
            "subscribe": subscribe,
            "unsubscribe": list(request.resource_names_unsubscribe),
            "initial": dict(request.initial_resource_versions),
            "nonce": request.response_nonce,
            "error": request.error_detail.message,
        })
        if url not in self.subscribed:
            # The first request of a type: no names are a wildcard subscription.
            self.subscribed[url] = set(subscribe) - {"*"} if subscribe and "*" not in subscribe else None
            self.sent[url] = dict(request.initial_resource_versions)
        elif self.subscribed[url] is not None:
            self.subscribed[url] |= set(subscribe)
            self.subscribed[url] -= set(request.resource_names_unsubscribe)
        for name in request.resource_names_unsubscribe:
            self.sent[url].pop(name, None)
        return self.changes(url)

    def changes(self, url):
        """Returns the response with the resources that changed since the last one, or None if none changed."""
        if url not in self.subscribed:
            return None
        subscribed, sent = self.subscribed[url], self.sent[url]
        current = {name: value for name, value in resources.get(url, {}).items() if subscribed is None or name in subscribed}
        changed = {name: value for name, value in current.items() if sent.get(name) != value[0]}
        removed = [name for name in sent if name not in current]
        if not changed and not removed:
            return None
        self.nonce += 1
        response = discovery_pb2.DeltaDiscoveryResponse(type_url=url, nonce=str(self.nonce), removed_resources=removed)
        for name, (version, content) in changed.items():
            response.resources.add(name=name, version=version, resource=content)
            sent[name] = version
        for name in removed:
            del sent[name]
        return response


class Server(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    def DeltaAggregatedResources(self, requests, context):
        stream = Stream()
        streams.append(stream)

        def read():
            try:
                for request in requests:
                    stream.events.put(request)
            except grpc.RpcError:
                pass
            stream.events.put(None)

        threading.Thread(target=read, daemon=True).start()
        while (event := stream.events.get()) is not None:
            if event == "close":
                break
            if event == "look":
                responses = [stream.changes(url) for url in ORDER]
            else:
                responses = [stream.on_request(event)]
            yield from (response for response in responses if response is not None)
        streams.remove(stream)


def put(name, resource):
    global count
    count += 1
    content = any_pb2.Any()
    json_format.ParseDict(resource, content)
    resources.setdefault(content.type_url, {})[name] = (str(count), content)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(Server(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print_json({"port": port})
    for line in sys.stdin:
        command = json.loads(line)
        for name, resource in command.get("put", {}).items():
            # A name may have one resource of each of several types.
            for one in resource if isinstance(resource, list) else [resource]:
                put(name, one)
        for url, names in command.get("remove", {}).items():
            for name in names:
                resources[url].pop(name, None)
        for stream in list(streams):
            stream.events.put("close" if command.get("close") else "look")
    server.stop(None)


main()
