"""Chromium: a page, served from here, that subscribes with the browser's own WebSocket and reports what it got."""

import http.server
import subprocess
import sys
import tempfile
import threading

PAGE = """<!doctype html><title>client</title><script>
const report = (text) => fetch("/report", {method: "POST", body: text});
const socket = new WebSocket(%(url)r, "tickgate.v1.json");
let events = 0, isAnswered = false, extensions = "";
socket.onopen = () => {
  extensions = socket.extensions;
  socket.send(JSON.stringify({op: "subscribe", id: 1, subscriptions: [{channel: "quotes", symbols: ["*"]}]}));
};
socket.onmessage = ({data}) => {
  const message = JSON.parse(data);
  if (Array.isArray(message)) {
    if (!isAnswered) report("an event before the answer");
    events += message.length;
    if (events >= %(wanted)d) socket.close(1000);
  } else if (message.op === "ack") {
    isAnswered = message.results.every((result) => result.ok);
  }
};
socket.onclose = ({code, wasClean}) =>
  report(code === 1000 && wasClean ? `ok ${events} events, extensions [${extensions}]` : `closed with ${code}`);
</script>"""


def main(url: str, wanted: int, port: int, browser: str) -> int:
    said, is_over = [], threading.Event()

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (PAGE % {"url": url, "wanted": wanted}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            said.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()
            is_over.set()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--no-first-run", f"--user-data-dir={profile}", f"http://127.0.0.1:{port}/"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as chromium:
            is_over.wait(60)
            chromium.kill()
    print(said[0] if said else "the page said nothing within 60 s")
    return 0 if said and said[0].startswith("ok ") else 1


sys.exit(main(sys.argv[1], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
