/** Addresses at which there is no stream, not yet, or no longer. */

import assert from "node:assert/strict";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { WebSocket } from "ws";
import type { SocketConstructor } from "../../src/index.js";
import { Collected } from "../support/collect.js";
import { type Gateway, Stage, until } from "../support/programs.js";

let stage: Stage;
let gateway: Gateway;

before(async () => {
  stage = await Stage.start();
  gateway = await stage.gateway();
});
after(() => stage.end());

type Listens = new (...all: unknown[]) => { addEventListener(type: string, listener: (event: object) => void): void };
/** Says as little of a handshake that failed as browsers do, and as Node 22 does: no status, and not even that it is closed. */
class Silent extends (WebSocket as unknown as Listens) {
  #isOpen = false;

  override addEventListener(type: string, listener: (event: object) => void): void {
    super.addEventListener("open", () => (this.#isOpen = true));
    super.addEventListener(type, (event) => {
      if (type === "error") listener({ message: "" });
      else if (type !== "close" || this.#isOpen) listener(event);
    });
  }
}

/** The runtime's own as well, where there is one. */
const OWN = (globalThis as { WebSocket?: SocketConstructor }).WebSocket;
const SOCKETS: [string, SocketConstructor][] = [["tells", WebSocket], ["hides", Silent], ...(OWN === undefined ? [] : ([["of the runtime hides", OWN]] as [string, SocketConstructor][]))];

const elsewhere = (path: string): string => gateway.url.replace("/v1/stream", path);

/** An HTTP server that is no gateway. */
async function other(answer: (response: ServerResponse) => void): Promise<{ url: string; server: Server }> {
  const server = createServer((_, response) => answer(response));
  server.on("upgrade", (_, socket) => socket.end("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"));
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return { url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/v1/stream`, server };
}

// The client tried for ever, and the first script of the README said nothing.
for (const [which, Constructor] of SOCKETS) {
  test(`a wrong path ends the client with what the gateway says of it, where the WebSocket ${which} the status`, async () => {
    for (const path of ["/v1/strem", "/v2/stream"]) {
      const client = new Collected(elsewhere(path), { WebSocket: Constructor });
      const asked = client.live.subscribe("trades", "*");
      await client.waitState("closed");
      const [error, ...more] = client.of("error");
      assert.deepEqual([error?.code, error?.fatal, more], ["bad_url", true, []]);
      assert.match(error?.message ?? "", /404: the stream is at \/v1\/stream$/);
      assert.match(error?.hint ?? "", /is `ws:\/\/host:port\/v1\/stream`/);
      await assert.rejects(asked, { code: "bad_url" });
    }
  });

  test(`an address without a path is that of the stream, and one without TLS is named, where the WebSocket ${which} the status`, async () => {
    const { host } = new URL(gateway.url);
    for (const url of [`ws://${host}`, `ws://${host}/`]) {
      const client = new Collected(url, { WebSocket: Constructor });
      await client.waitState("live");
      client.live.close();
    }
    const client = new Collected(`wss://${host}`, { WebSocket: Constructor });
    await client.waitState("reconnecting");
    assert.match(client.of("state")[1]?.reason ?? "", /^no TLS is spoken at this address: try ws:/);
    client.live.close();
    // Nobody comes again who does not want to: that is an error.
    const once = new Collected(`wss://${host}`, { WebSocket: Constructor, reconnect: false });
    await once.waitState("closed");
    assert.deepEqual(once.of("error").map(({ code, fatal }) => [code, fatal]), [["connect_failed", true]]);
  });

  test(`of several addresses a wrong one is told and passed over, where the WebSocket ${which} the status`, async () => {
    const client = new Collected([elsewhere("/wrong"), gateway.url], { WebSocket: Constructor });
    await client.waitState("live");
    assert.deepEqual(client.of("error").map(({ code, fatal }) => [code, fatal]), [["bad_url", false]]);
    client.live.close();
    const lost = new Collected([elsewhere("/wrong"), elsewhere("/as-well")], { WebSocket: Constructor });
    await lost.waitState("closed");
    assert.deepEqual(lost.of("error").map(({ fatal }) => fatal), [false, true]);
  });

  test(`a gateway that is not there yet is waited for, and what to look at is told, where the WebSocket ${which} the status`, async () => {
    const first = await stage.gateway();
    await first.program.stop();
    const client = new Collected(first.url, { WebSocket: Constructor });
    await client.waitState("reconnecting", 2);
    const told = client.of("state").find(({ state }) => state === "reconnecting");
    assert.match(told?.reason ?? "", /ECONNREFUSED/);
    assert.match(told?.hint ?? "", /is the address right, .* Is a gateway there\?$/);
    // The same was told twice: as an error as well.
    assert.deepEqual(client.of("error"), []);
    const second = await stage.gateway([], { listen: first.address });
    await client.waitState("live");
    // A path that was right once: a proxy may know of no gateway for a while.
    await second.program.stop();
    const nobody = createServer((_, response) => response.writeHead(404).end());
    nobody.on("upgrade", (_, socket) => socket.end("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"));
    const { port } = new URL(first.url);
    await until(() => new Promise<boolean>((up) => nobody.once("error", () => up(false)).listen(Number(port), "127.0.0.1", () => up(true))), "a port that is free");
    const seen = client.of("state").length;
    await until(() => client.of("state").length >= seen + 2 && client.live.state === "reconnecting", "attempts");
    await new Promise((closed) => nobody.close(closed));
    nobody.closeAllConnections();
    const third = await stage.gateway([], { listen: first.address });
    await client.waitState("live", 2);
    client.live.close();
    await third.program.stop();
  });
}

test("what answers something else is named and tried on, and reading its answer is bounded", async () => {
  // A page, a body without an end, an error in JSON that is none of ours.
  const answers: [(response: ServerResponse) => void, RegExp][] = [
    [(response) => response.writeHead(200, { "content-type": "text/html" }).end("<html>hello</html>"), /answered with 200$/],
    [(response) => void response.writeHead(200).write("x".repeat(100_000)), /answered with 200: x{200}$/],
    [(response) => response.writeHead(503).end("null"), /answered with 503$/],
    [(response) => response.writeHead(503).end('{"error":{"code":1}}'), /answered with 503$/],
    [(response) => response.destroy(), /other side closed$/],
  ];
  for (const [answer, reason] of answers) {
    const { url, server } = await other(answer);
    const client = new Collected(url, { WebSocket: Silent });
    await client.waitState("reconnecting", 2);
    assert.match(client.of("state")[1]?.reason ?? "", reason);
    assert.deepEqual(client.of("error"), []);
    client.live.close();
    server.close();
    server.closeAllConnections();
  }
});

test("who does not want to come back gets in by any address, each of which is tried once", async () => {
  const { url: dead, server } = await other((response) => response.end());
  const client = new Collected([dead, gateway.url], { WebSocket, reconnect: false });
  await client.waitState("live");
  client.live.close();
  const nowhere = new Collected([dead, dead], { WebSocket, reconnect: false });
  await nowhere.waitState("closed");
  assert.deepEqual(nowhere.of("state").map(({ state }) => state), ["connecting", "reconnecting", "closed"]);
  server.close();
});
