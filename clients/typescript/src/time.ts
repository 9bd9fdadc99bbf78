/** Times: `bigint` nanoseconds since the Unix epoch. */

/** A `Date`, cut to milliseconds. */
export function toDate(ns: bigint): Date {
  return new Date(toMs(ns));
}

/** Whole milliseconds since the Unix epoch. */
export function toMs(ns: bigint): number {
  // Rounds down on either side of 1970.
  return Number(BigInt.asIntN(64, ns - (((ns % 1_000_000n) + 1_000_000n) % 1_000_000n)) / 1_000_000n);
}

/** ISO 8601 in UTC with all nine digits: `2013-10-07T13:00:00.000000000Z`. */
export function toIso(ns: bigint): string {
  const below = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  const seconds = new Date(Number((ns - below) / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${below.toString().padStart(9, "0")}Z`;
}

/** Nanoseconds of a `Date`, of an ISO text that `Date` reads, or of nanoseconds themselves. */
export function toNs(time: Date | string | bigint): bigint {
  if (typeof time === "bigint") return time;
  const ms = typeof time === "string" ? Date.parse(time) : time.getTime();
  if (!Number.isFinite(ms)) throw new RangeError(`not a time: ${String(time)}`);
  return BigInt(Math.trunc(ms)) * 1_000_000n;
}

/** Nanoseconds since the epoch of now, as a double: exact to some 256 ns, which is finer than browsers' clocks. */
export function nowNs(): number {
  return (performance.timeOrigin + performance.now()) * 1e6;
}
