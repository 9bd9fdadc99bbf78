/** Gateways that ask for a token, and the tokens that they take. */

import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * What a gateway is configured with that wants tokens signed with `secret`, which is in a file of that name: another one in its place counts
 * from a reload on.
 *
 * @param {import("./browser.mjs").Scene} scene @param {string} name @param {string} secret 32 bytes or more
 */
export function required(scene, name, secret) {
  const key = join(scene.stage.dir, `${name}.secret`);
  writeFileSync(key, secret);
  return `[auth]\nmode = "required"\nissuers = ["tests"]\naudiences = ["tickgate"]\nkey_files = ["HS256:${key}"]\n`;
}

/** A token for ten minutes, for everything or for what these patterns say. @param {string} secret @param {readonly string[]} symbols */
export function token(secret, symbols = ["*"]) {
  const part = (/** @type {object} */ value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { iss: "tests", aud: "tickgate", sub: "ann", exp: Math.floor(Date.now() / 1_000) + 600, tickgate: { symbols, wildcard: true } };
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}
