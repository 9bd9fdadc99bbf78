/** Positions in Kafka, kept as the texts that they come as: comparing two of them needs no number. */

import type { Seq } from "./events.js";

const COLON = 0x3a;

/** Whether a text is a position: `<hexadecimal epoch>:<partition>:<offset>`. */
export function isPosition(text: unknown): text is Seq {
  if (typeof text !== "string") return false;
  let part = 0;
  let digits = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === COLON) {
      if (digits === 0 || ++part > 2) return false;
      digits = 0;
    } else if ((code >= 0x30 && code <= 0x39) || (part === 0 && code >= 0x61 && code <= 0x66)) {
      // A leading zero would make two texts of one position.
      if (digits === 1 && text.charCodeAt(at - 1) === 0x30) return false;
      if (++digits > (part === 0 ? 8 : part === 1 ? 10 : 20)) return false;
    } else {
      return false;
    }
  }
  return part === 2 && digits > 0;
}

/** Whether two positions are in the same partition of the same topic. */
export function isSamePartition(a: Seq, b: Seq): boolean {
  const colon = a.lastIndexOf(":");
  if (colon !== b.lastIndexOf(":")) return false;
  // From behind, where they differ first.
  for (let at = colon - 1; at >= 0; at--) {
    if (a.charCodeAt(at) !== b.charCodeAt(at)) return false;
  }
  return true;
}

/** Whether `a` is at or before `b`, in the same partition of the same topic. */
export function isAtOrBefore(a: Seq, b: Seq): boolean {
  if (a.length > b.length) return false;
  // Without leading zeros the shorter offset is the lower one, and of two that are as long the texts compare as numbers do.
  return isSamePartition(a, b) && (a.length < b.length || a <= b);
}

/** The parts of a position, `undefined` if it is none. */
export function parsePosition(text: Seq): { epoch: number; partition: number; offset: bigint } | undefined {
  if (!isPosition(text)) return undefined;
  const [epoch = "", partition = "", offset = ""] = text.split(":");
  return { epoch: parseInt(epoch, 16), partition: Number(partition), offset: BigInt(offset) };
}
