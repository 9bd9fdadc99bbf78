/** Prices and sizes: texts, exact, compared by value. */

import type { DecimalText } from "./events.js";

const ZERO = 0x30;
const NINE = 0x39;

/** Whether a text is a plain decimal number, as the gateway writes them: `-12.50`. */
export function isDecimal(text: unknown): text is DecimalText {
  if (typeof text !== "string") return false;
  let at = text.charCodeAt(0) === 0x2d ? 1 : 0;
  const end = text.length;
  if (at === end || end > 40) return false;
  let digits = 0;
  let hasPoint = false;
  for (; at < end; at++) {
    const code = text.charCodeAt(at);
    if (code >= ZERO && code <= NINE) {
      digits++;
    } else if (code === 0x2e && !hasPoint && digits > 0 && at + 1 < end) {
      hasPoint = true;
    } else {
      return false;
    }
  }
  return digits > 0;
}

/** The nearest double, for statistics and display. */
export function toNumber(text: DecimalText): number {
  return Number(text);
}

/** Digits after the decimal point. */
export function scaleOf(text: DecimalText): number {
  const point = text.indexOf(".");
  return point < 0 ? 0 : text.length - point - 1;
}

/** The number as an integer: `toFixedPoint("487.50", 4)` is `4875000n`. Throws a `RangeError` where digits would be lost. */
export function toFixedPoint(text: DecimalText, scale: number): bigint {
  const point = text.indexOf(".");
  const digits = point < 0 ? text : text.slice(0, point) + text.slice(point + 1);
  const own = point < 0 ? 0 : text.length - point - 1;
  const mantissa = BigInt(digits);
  if (own <= scale) return mantissa * 10n ** BigInt(scale - own);
  const unit = 10n ** BigInt(own - scale);
  if (mantissa % unit !== 0n) throw new RangeError(`${text} has more than ${scale} digits after the point`);
  return mantissa / unit;
}

/** Whether it is zero, in whatever number of digits. */
export function isZero(text: DecimalText): boolean {
  return Number(text) === 0;
}

/** Compares two by value, exactly: below, at or above zero. `"9.50"` equals `"9.5"`. */
export function compareDecimals(a: DecimalText, b: DecimalText): number {
  if (a === b) return 0;
  const difference = Number(a) - Number(b);
  // Rounding keeps the order: where the nearest doubles differ, so do the numbers, the same way.
  if (difference !== 0) return difference;
  const scale = Math.max(scaleOf(a), scaleOf(b));
  const [x, y] = [toFixedPoint(a, scale), toFixedPoint(b, scale)];
  return x < y ? -1 : x > y ? 1 : 0;
}
