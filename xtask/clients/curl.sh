#!/usr/bin/env bash
# curl --include: whoever looks at the handshake by hand sees the answer, and the greeting behind it.
set -euo pipefail
url=${1/#ws:/http:}
url=${url/#wss:/https:}
# It has no frames to send, so it is told to go after a while: 28 is its word for that.
answer=$(curl --silent --include --no-buffer --max-time 2 --http1.1 \
    --header 'Connection: Upgrade' --header 'Upgrade: websocket' --header 'Sec-WebSocket-Version: 13' \
    --header 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' "$url" | tr -d '\000' || true)
grep -q '^HTTP/1.1 101 ' <<<"$answer"
# The key of RFC 6455 1.3, and what it says must come back.
grep -qi '^sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=' <<<"$answer"
grep -qa '"op":"hello"' <<<"$answer"
plain=$(curl --silent --include --http1.1 "$url")
grep -q '^HTTP/1.1 426 ' <<<"$plain"
grep -q '^{"error":"' <<<"$plain"
echo "ok 101 with its greeting; 426 with a reason to a plain request"
