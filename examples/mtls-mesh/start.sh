#!/bin/sh
# Starts a control plane, and a service without a proxy. Ctrl-C stops both.
# Run from the repository's root, after `cargo build --workspace` and `cargo xtask plugins`.
set -eu
work=target/mtls-mesh
mkdir -p "$work/service"
started=
trap 'kill $started 2>/dev/null; wait; exit' INT TERM EXIT

echo "hello from behind two proxies" > "$work/service/hello"
python3 -m http.server 9000 --bind 127.0.0.1 --directory "$work/service" >"$work/service.log" 2>&1 &
started="$started $!"

target/debug/weir-control --store "$work/store" --api 127.0.0.1:15080 --xds 127.0.0.1:15010 \
    --xds-mtls 127.0.0.1:15012 --modules 127.0.0.1:15011 2>"$work/control.log" &
started="$started $!"

echo "logs are in $work; Ctrl-C stops all"
wait
