/** What the page is to tell a person next. */

import type { Notice } from "./messages.js";

const NOTICES_MAX = 50;

/** Notices that wait for the page: the last ones, each as it is now. */
export class Notices {
  #waiting: Notice[] = [];

  /** Takes one; one that has the same `id` and still waits is told no more as it was. */
  add(notice: Notice): void {
    const at = notice.id === undefined ? -1 : this.#waiting.findIndex(({ id }) => id === notice.id);
    const told = this.#waiting[at];
    if (told !== undefined && notice.isMoved !== true) {
      told.kind = notice.kind;
      told.text = notice.text;
      return;
    }
    if (told !== undefined) this.#waiting.splice(at, 1);
    this.#waiting.push(notice);
    if (this.#waiting.length > NOTICES_MAX) this.#waiting.shift();
  }

  /** All that wait, oldest first; then none does. */
  take(): Notice[] {
    const notices = this.#waiting;
    this.#waiting = [];
    return notices;
  }
}
