/**
 * A tab that nobody looks at but who opened it. Playwright has Chromium tell it of every frame of every socket, which costs browser and test together a
 * quarter of a processor here: a tab in a context that it did not make is left alone, and is asked by messages of the debugger.
 */

import { EventEmitter } from "node:events";

export class Tab extends EventEmitter {
  #calls = 0;
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void }>} */
  #waiting = new Map();

  /** @param {import("playwright-core").CDPSession} system @param {string} sessionId */
  constructor(system, sessionId) {
    super();
    this.system = system;
    this.sessionId = sessionId;
    system.on("Target.receivedMessageFromTarget", (event) => {
      if (event.sessionId !== sessionId) return;
      const { id, result, error, method, params } = JSON.parse(event.message);
      if (method !== undefined) return void this.emit(method, params);
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error !== undefined) waiting?.reject(new Error(error.message));
      else waiting?.resolve(result);
    });
  }

  /** @param {import("playwright-core").CDPSession} system @param {{ width: number, height: number }} size */
  static async open(system, { width, height }) {
    const { browserContextId } = await system.send("Target.createBrowserContext");
    const { targetId } = await system.send("Target.createTarget", { url: "about:blank", browserContextId, width, height });
    const { sessionId } = await system.send("Target.attachToTarget", { targetId, flatten: false });
    const tab = new Tab(system, sessionId);
    await tab.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
    return tab;
  }

  /** @param {string} method @param {object} params @returns {Promise<any>} */
  send(method, params = {}) {
    const id = ++this.#calls;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    return this.system.send("Target.sendMessageToTarget", { sessionId: this.sessionId, message: JSON.stringify({ id, method, params }) }).then(() => answer);
  }

  /** What a function gives in the page. @template T @template A @param {(of: A) => T | Promise<T>} what @param {A} [of] @returns {Promise<T>} */
  async evaluate(what, of) {
    const expression = `(${what})(${JSON.stringify(of) ?? ""})`;
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails !== undefined) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** @param {string} url */
  async goto(url) {
    await this.send("Page.enable");
    const loaded = new Promise((resolve) => this.once("Page.loadEventFired", resolve));
    await this.send("Page.navigate", { url });
    await loaded;
  }
}
