/** Time and sales: the newest trades first, coloured by who was the aggressor; it stands still under the pointer. */

import { effect } from "@preact/signals-core";
import { byId, clock, make, setText } from "./dom.js";
import type { Print } from "./messages.js";
import * as state from "./state.js";

const LINES = 40;
/** Trades that are kept, for another filter and for copying. */
const PRINTS_MAX = 500;

export class Tape {
  readonly #list = byId("prints");
  readonly #note = byId("tape-note");
  readonly #lines = Array.from({ length: LINES }, () => {
    const element = make("div", "print", { role: "listitem" });
    const cells = ["time", "price", "size"].map((name) => make("span", name));
    element.append(...cells);
    element.hidden = true;
    this.#list.append(element);
    return { element, cells };
  });
  /** Newest last. */
  readonly #prints: Print[] = [];
  #skipped = 0;
  #isDirty = true;
  #isPaused = false;
  #missed = 0;
  /** Whether there is a line to stand still. */
  #hasLines = false;

  constructor() {
    const pause = (isPaused: boolean): void => {
      this.#isPaused = isPaused;
      if (!isPaused) this.#missed = 0;
      this.#isDirty = true;
    };
    // The lines alone: above them is the filter, which is used with the pointer on it.
    this.#list.addEventListener("pointerenter", () => pause(true));
    this.#list.addEventListener("pointerleave", () => pause(false));
    // For who has no pointer: it stands still while the focus is on it.
    this.#list.addEventListener("focus", () => pause(true));
    this.#list.addEventListener("blur", () => pause(false));
    effect(() => {
      state.sizeMin.value;
      // Another filter is shown at once, also of what stands still.
      this.#missed = 0;
      this.#isDirty = true;
    });
  }

  take(prints: readonly Print[], skipped: number): void {
    if (prints.length === 0 && skipped === 0) return;
    this.#prints.push(...prints);
    if (this.#prints.length > PRINTS_MAX) this.#prints.splice(0, this.#prints.length - PRINTS_MAX);
    this.#skipped += skipped;
    if (this.#isPaused && this.#hasLines) this.#missed += prints.length;
    this.#isDirty = true;
  }

  /** What is kept, newest last. */
  get prints(): readonly Print[] {
    return this.#prints;
  }

  /** Another symbol: no line of the one before stays, standing still or not. */
  clear(): void {
    this.#prints.length = 0;
    this.#skipped = 0;
    this.#missed = 0;
    this.#hasLines = false;
    this.#isDirty = true;
  }

  paint(): void {
    if (!this.#isDirty || !state.panels.value.includes("tape")) return;
    this.#isDirty = false;
    const paused = this.#isPaused ? `paused, ${this.#missed} new` : "";
    setText(this.#note, paused || (this.#skipped > 0 ? `${this.#skipped} came too fast to be shown` : ""));
    if (this.#isPaused && this.#missed > 0) return;
    let at = this.#prints.length - 1;
    this.#hasLines = false;
    for (const { element, cells } of this.#lines) {
      while (at >= 0 && Number((this.#prints[at] as Print).size) < state.sizeMin.value) at--;
      const print = this.#prints[at--];
      element.hidden = print === undefined;
      if (print === undefined) continue;
      this.#hasLines = true;
      const way = print.side === "buy" ? 1 : print.side === "sell" ? -1 : (print.tick ?? 0);
      const signs = print.side === undefined ? "▽·△" : "▼·▲";
      setText(cells[0] as HTMLElement, clock(print.time_ms));
      setText(cells[1] as HTMLElement, `${signs[way + 1]} ${print.price}`);
      setText(cells[2] as HTMLElement, print.size);
      element.classList.toggle("buy", way > 0);
      element.classList.toggle("sell", way < 0);
    }
  }
}
