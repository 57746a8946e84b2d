#!/bin/sh
# demo.sh MODEL: serves MODEL on a socket of its own, lets the person talk to it (wickctl repl), and
# stops the server when they are done. Without a terminal it writes one text and ends.
set -eu
build=${BUILD:-build}
model=$1
socket=$build/wick.sock
log=$build/wick.log

if [ ! -r "$model" ]; then
    echo "demo: cannot read the model '$model'" >&2
    exit 1
fi
rm -f "$socket"
# A session of its own: Ctrl-C stops a text, not the server.
setsid "$build/wick" model="$model" listen=unix:"$socket" </dev/null >"$log" 2>&1 &
server=$!
stop() {
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    rm -f "$socket"
}
trap stop EXIT

tries=0
while [ ! -S "$socket" ]; do
    if ! kill -0 "$server" 2>/dev/null || [ "$tries" -ge 300 ]; then
        echo "demo: wick does not come up; its log:" >&2
        cat "$log" >&2
        exit 1
    fi
    tries=$((tries + 1))
    sleep 0.1
done
# Job control gives the client the terminal to itself: Ctrl-C reaches neither this script nor make.
if [ -t 0 ]; then set -m; fi
status=0
"$build/wickctl" -c unix:"$socket" repl || status=$?
if ! kill -0 "$server" 2>/dev/null; then
    echo "demo: wick has ended; its log:" >&2
    cat "$log" >&2
fi
exit "$status"
