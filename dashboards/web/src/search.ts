/** Search: `/`, a few letters, arrows, Enter. What is not known to be there can be asked for all the same. */

import { effect } from "@preact/signals-core";
import { announce, byId, make } from "./dom.js";
import { faultOf } from "./hash.js";
import * as state from "./state.js";

const SHOWN_MAX = 12;

/** The symbols that a text may mean: those that begin so, then those that have it within. */
export function find(directory: readonly string[], text: string): string[] {
  const wanted = text.trim().toUpperCase();
  if (wanted === "") return directory.slice(0, SHOWN_MAX);
  const begins: string[] = [];
  const has: string[] = [];
  for (const symbol of directory) {
    const at = symbol.toUpperCase().indexOf(wanted);
    if (at === 0) begins.push(symbol);
    else if (at > 0 && has.length < SHOWN_MAX) has.push(symbol);
    if (begins.length === SHOWN_MAX) break;
  }
  return [...begins, ...has].slice(0, SHOWN_MAX);
}

export class Search {
  readonly #input = byId<HTMLInputElement>("search");
  readonly #list = byId("found");
  readonly #done: () => void;
  readonly #refused: (why: string) => void;
  #found: string[] = [];
  #at = 0;

  /** `opened` is called when symbols are looked for, `done` when one was taken or none, `refused` with why one was not. */
  constructor(opened: () => void, done: () => void, refused: (why: string) => void) {
    this.#done = done;
    this.#refused = refused;
    this.#input.addEventListener("focus", () => {
      opened();
      this.#show();
    });
    this.#input.addEventListener("input", () => {
      this.#at = 0;
      this.#show();
    });
    this.#input.addEventListener("blur", () => this.#hide());
    this.#input.addEventListener("keydown", (event) => this.#key(event));
    // Before the input loses its focus.
    this.#list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const option = (event.target as HTMLElement).closest<HTMLElement>("[data-symbol]");
      if (option?.dataset.symbol !== undefined) this.#take(option.dataset.symbol);
    });
    effect(() => {
      state.directory.value;
      if (document.activeElement === this.#input) this.#show();
    });
  }

  focus(): void {
    this.#input.focus();
    this.#input.select();
  }

  #key(event: KeyboardEvent): void {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const step = event.key === "ArrowDown" ? 1 : -1;
      if (this.#found.length > 0) this.#at = (this.#at + step + this.#found.length) % this.#found.length;
      this.#show();
    } else if (event.key === "Enter") {
      const symbol = this.#found[this.#at] ?? this.#input.value.trim();
      if (symbol !== "") this.#take(symbol);
    } else if (event.key === "Escape") {
      this.#input.value = "";
      this.#done();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #take(symbol: string): void {
    const fault = state.add(symbol);
    const told = fault === undefined ? `${symbol} is in the watchlist` : `${symbol} cannot be added: ${fault}`;
    announce(told);
    // What was typed stays, to be mended.
    if (fault !== undefined) return this.#refused(told);
    this.#input.value = "";
    this.#hide();
    this.#done();
  }

  #show(): void {
    const typed = this.#input.value.trim();
    this.#found = find(state.directory.value, typed);
    const fault = typed === "" ? undefined : faultOf(typed);
    if (typed !== "" && fault === undefined && !this.#found.includes(typed)) this.#found.push(typed);
    this.#at = Math.min(this.#at, Math.max(0, this.#found.length - 1));
    const isKnown = new Set(state.directory.value);
    this.#list.replaceChildren(
      ...this.#found.map((symbol, at) => {
        const option = make("li", at === this.#at ? "at" : "", { role: "option", id: `found-${at}`, "data-symbol": symbol, "aria-selected": String(at === this.#at) });
        option.textContent = isKnown.has(symbol) ? symbol : `Subscribe to ${symbol}, not seen so far`;
        return option;
      }),
    );
    if (fault !== undefined && this.#found.length === 0) {
      const option = make("li", "fault", { role: "option", "aria-disabled": "true", "aria-selected": "false" });
      option.textContent = `No symbol: ${fault}`;
      this.#list.append(option);
    }
    this.#list.hidden = this.#list.children.length === 0;
    this.#input.setAttribute("aria-expanded", String(!this.#list.hidden));
    if (this.#found.length > 0) this.#input.setAttribute("aria-activedescendant", `found-${this.#at}`);
    else this.#input.removeAttribute("aria-activedescendant");
  }

  #hide(): void {
    this.#list.hidden = true;
    this.#input.setAttribute("aria-expanded", "false");
    this.#input.removeAttribute("aria-activedescendant");
  }
}
