#!/bin/sh
# Starts a control plane, two weir-proxies and an Envoy, with two versions of a service behind them. Ctrl-C stops all.
# Run from the repository's root, after `cargo build --workspace`, `cargo xtask plugins` and `cargo xtask tools`.
set -eu
here=examples/control-plane
work=target/control-plane
rm -rf "$work" && mkdir -p "$work/v1" "$work/v2"
started=
trap 'kill $started 2>/dev/null; wait; exit' INT TERM EXIT

# The service: two versions with one file each.
echo "hello from v1" > "$work/v1/hello"
echo "hello from v2" > "$work/v2/hello"
python3 -m http.server 9000 --bind 127.0.0.1 --directory "$work/v1" >"$work/origins.log" 2>&1 &
started="$started $!"
python3 -m http.server 9001 --bind 127.0.0.1 --directory "$work/v2" >>"$work/origins.log" 2>&1 &
started="$started $!"

# The control plane.
target/debug/weir-control --store "$work/store" --api 127.0.0.1:15080 --xds 127.0.0.1:15010 \
    --xds-mtls 127.0.0.1:15012 --modules 127.0.0.1:15011 2>"$work/control.log" &
started="$started $!"

# Three proxies. Each names its Gateway, and receives the resources of this Gateway only.
target/debug/weir-proxy --xds http://127.0.0.1:15010 --node edge-a --gateway default/edge-a \
    --admin 127.0.0.1:15001 --cache "$work/edge-a" >"$work/edge-a.log" 2>&1 &
started="$started $!"
target/debug/weir-proxy --xds http://127.0.0.1:15010 --node edge-b --gateway default/edge-b \
    --admin 127.0.0.1:15002 --cache "$work/edge-b" >"$work/edge-b.log" 2>&1 &
started="$started $!"
"$(ls target/bench/venv/lib/*/site-packages/envoy/_bin/envoy)" --config-path "$here/bootstrap/envoy.yaml" \
    --use-dynamic-base-id --log-level warning >"$work/envoy.log" 2>&1 &
started="$started $!"

echo "logs are in $work; Ctrl-C stops all"
wait
