/** The page as a gateway serves it: hashed files, its policy, and the stream under the same origin, which is passed on to a gateway. */

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const POLICY = readFileSync(join(ROOT, "csp.txt"), "utf8").trim();
/** @type {Record<string, string>} */
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml" };

/** Serves `dist`, for gateways that have another page, or none. `target` is the `host:port` of the gateway. */
export class PageServer {
  target = "";
  /** The script of the worker as it is sent. @type {((script: string) => string) | undefined} */
  #worker;
  /** @type {Set<import("node:net").Socket>} */
  #lines = new Set();
  #server = createServer((request, response) => {
    const path = normalize(new URL(request.url ?? "/", "http://page").pathname);
    try {
      const name = path === "/" ? "index.html" : path.slice(1);
      // What was compressed beforehand is what is sent.
      const packed = readFileSync(join(ROOT, "dist", `${name}.gz`));
      const isChanged = this.#worker !== undefined && /^assets\/worker-/.test(name);
      const body = isChanged ? gzipSync(this.#worker?.(gunzipSync(packed).toString()) ?? "") : packed;
      response.writeHead(200, {
        "content-type": TYPES[extname(name)] ?? "application/octet-stream",
        "content-encoding": "gzip",
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": name === "index.html" ? "no-cache" : "public, max-age=31536000, immutable",
      });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });

  /**
   * Streams wait for `open`, `worker` changes the script of the page's worker.
   *
   * @param {string} target @param {{ open?: Promise<unknown>, worker?: (script: string) => string }} options
   */
  static async start(target, { open = Promise.resolve(), worker } = {}) {
    const server = new PageServer();
    server.#worker = worker;
    server.target = target;
    server.#server.on("upgrade", (request, stream, head) => {
      const page = /** @type {import("node:net").Socket} */ (stream);
      page.on("error", () => page.destroy());
      void open.then(() => server.#passOn(request, page, head));
    });
    await new Promise((listening) => server.#server.listen(0, "127.0.0.1", () => listening(undefined)));
    return server;
  }

  get url() {
    const address = /** @type {import("node:net").AddressInfo} */ (this.#server.address());
    return `http://127.0.0.1:${address.port}/`;
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:net").Socket} page @param {Buffer} head */
  #passOn(request, page, head) {
    const [host, port] = this.target.split(":");
    const gateway = connect(Number(port), host, () => {
      const lines = [`GET ${request.url} HTTP/1.1`];
      for (let at = 0; at < request.rawHeaders.length; at += 2) lines.push(`${request.rawHeaders[at]}: ${request.rawHeaders[at + 1]}`);
      gateway.write(`${lines.join("\r\n")}\r\n\r\n`);
      gateway.write(head);
    });
    this.#lines.add(page);
    gateway.on("data", (part) => page.write(part));
    page.on("data", (part) => gateway.write(part));
    for (const [one, other] of [[page, gateway], [gateway, page]]) {
      one?.on("error", () => other?.destroy());
      one?.on("close", () => {
        other?.destroy();
        this.#lines.delete(page);
      });
    }
  }

  /** Breaks all streams. */
  cut() {
    for (const line of this.#lines) line.destroy();
  }

  close() {
    this.cut();
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
