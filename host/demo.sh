#!/bin/sh
# demo.sh MODEL: serves MODEL on a socket of its own and lets the person talk to it; stops the server
# when they are done. Without a terminal it generates one text and ends.
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
"$build/wick" model="$model" listen=unix:"$socket" 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -f "$socket"' EXIT
trap 'exit 130' INT TERM

# Loading takes a moment; a server that died says why in its log.
tries=0
while [ ! -S "$socket" ]; do
    if ! kill -0 "$server" 2>/dev/null || [ "$tries" -ge 600 ]; then
        echo "demo: wick did not start:" >&2
        cat "$log" >&2
        exit 1
    fi
    tries=$((tries + 1))
    sleep 0.1
done

if [ -t 0 ]; then
    "$build/wickctl" -c unix:"$socket" repl
else
    "$build/wickctl" -c unix:"$socket" gen max_tokens=64 seed=1 "Once upon a time"
    echo
fi
