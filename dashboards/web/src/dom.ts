/** Small helpers for the page's elements. */

/** The element of this id, which `index.html` has. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no element ${id}`);
  return element as T;
}

/** A new element. */
export function make<K extends keyof HTMLElementTagNameMap>(tag: K, className = "", attributes: Record<string, string> = {}): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className !== "") element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Sets a text, only where it differs: what stays is not painted again. */
export function setText(element: HTMLElement, text: string): boolean {
  const node = element.firstChild;
  if (node === null) {
    if (text === "") return false;
    element.textContent = text;
    return true;
  }
  if (node.nodeValue === text) return false;
  node.nodeValue = text;
  return true;
}

/** A number with thousands apart. */
export function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** A size in six characters or so: one that is longer is rounded. */
export function size(text: string): string {
  if (text.length <= 6) return text;
  const value = Number(text);
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (value >= unit * (unit === 1e3 ? 100 : 1)) return `${Number((value / unit).toPrecision(4))}${name}`;
  }
  return String(Number(value.toPrecision(5)));
}

/** Milliseconds, with as many digits as matter. */
export function ms(value: number): string {
  const size = Math.abs(value);
  return `${value.toFixed(size < 10 ? 2 : size < 100 ? 1 : 0)} ms`;
}

/** A time of the day in UTC, with milliseconds. */
export function clock(time_ms: number): string {
  return new Date(time_ms).toISOString().slice(11, 23);
}

/** Says something to screen readers, once. */
export function announce(text: string): void {
  setText(byId("announcer"), text);
}
