/** What stands at an address where no session came about: browsers and Node's own WebSocket keep to themselves why a handshake was refused. */

/** How long that may take, and how much of the answer is read. */
const ASK_MS = 3_000;
const BODY_BYTES_MAX = 4_096;
const TEXT_CHARS_MAX = 200;

/** What came of a plain request: nothing where nobody answers in time, and where a browser may not say what was answered. */
export interface Found {
  status?: number;
  /** What is answered, if that is a line of text and no page; or why there is no answer, where the runtime tells it. */
  text?: string | undefined;
}

/** Asks once, without a token. */
export async function probe(url: string, asking: AbortController): Promise<Found> {
  const timer = setTimeout(() => asking.abort(), ASK_MS);
  try {
    const response = await fetch(url.replace(/^ws/, "http"), { redirect: "manual", credentials: "omit", cache: "no-store", signal: asking.signal });
    return response.status === 0 ? {} : { status: response.status, text: lineOf(await beginning(response)) };
  } catch (error) {
    const cause = (error as { cause?: { message?: unknown } } | undefined)?.cause?.message;
    return typeof cause === "string" && cause !== "" ? { text: cause } : {};
  } finally {
    clearTimeout(timer);
    asking.abort();
  }
}

/** The beginning of a body. */
async function beginning({ body }: Response): Promise<string> {
  const reader = body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (let bytes = 0; reader !== undefined && bytes < BODY_BYTES_MAX; ) {
    const { value } = await reader.read();
    if (value === undefined) break;
    bytes += value.length;
    text += decoder.decode(value, { stream: true });
  }
  return text;
}

/** A gateway's reason, or a line as others write it. */
function lineOf(body: string): string | undefined {
  let line: unknown = body.trim();
  try {
    line = (JSON.parse(body) as { error?: unknown } | null)?.error;
  } catch {
    // Not a gateway's.
  }
  return typeof line === "string" && /^[^<\p{Cc}]+$/u.test(line) ? line.slice(0, TEXT_CHARS_MAX) : undefined;
}
