/** A WebSocket between a client and a gateway that can be cut, held up, turned elsewhere, and that can say what no gateway says. */

import type { AddressInfo } from "node:net";
import { WebSocket, WebSocketServer } from "ws";

/** Stands between clients and a gateway. */
export class Relay {
  /** The gateway that the next connection goes to. */
  target: string;
  /** Changes or leaves out what the gateway says. */
  filter: (text: string) => string | undefined = (text) => text;
  /** Whether nothing is passed on to clients at present. */
  isHeld = false;
  connections = 0;
  readonly #server: WebSocketServer;
  readonly #clients = new Set<WebSocket>();

  private constructor(target: string) {
    this.target = target;
    this.#server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => "tickgate.v1.json" });
    this.#server.on("connection", (client, request) => this.#connected(client, request.headers.authorization));
  }

  static async start(target: string): Promise<Relay> {
    const relay = new Relay(target);
    await new Promise((listening) => relay.#server.once("listening", listening));
    return relay;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1/stream`;
  }

  #connected(client: WebSocket, authorization: string | undefined): void {
    this.connections++;
    const headers = authorization === undefined ? {} : { Authorization: authorization };
    const gateway = new WebSocket(this.target, ["tickgate.v1.json"], { headers });
    this.#clients.add(client);
    const before: string[] = [];
    client.on("message", (data) => {
      const text = String(data);
      if (gateway.readyState === WebSocket.OPEN) gateway.send(text);
      else before.push(text);
    });
    gateway.on("open", () => before.forEach((text) => gateway.send(text)));
    gateway.on("message", (data) => {
      const text = this.isHeld ? undefined : this.filter(String(data));
      if (text !== undefined) client.send(text);
    });
    gateway.on("close", (code, reason) => client.close(code >= 1_012 || code === 1_000 ? code : 1_011, reason));
    gateway.on("error", () => client.terminate());
    client.on("error", () => undefined);
    client.on("close", () => {
      this.#clients.delete(client);
      gateway.terminate();
    });
  }

  /** Says something to every client. */
  say(message: string | Buffer): void {
    for (const client of this.#clients) client.send(message);
  }

  /** Cuts every connection, without a close frame. */
  cut(): void {
    for (const client of this.#clients) client.terminate();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
