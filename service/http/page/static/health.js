// Whether the service can answer. While it cannot, it is asked again, less and less often, until it can.

import { getJson } from "./api.js";
import { pause, until } from "./wait.js";

const BACK_OFF_S = [1, 2, 3, 4, 5];

export class Health extends EventTarget {
  /** Believed until the contrary is known: a photo need not wait for the first look. */
  up = true;
  /** What /readyz says: ok, starting, draining …; or connecting, unreachable. */
  word = "connecting";
  #look = null;
  #waiting = false;

  /** Asks now; whether the service is up. Calls at the same time share one look. */
  check() {
    this.#look ??= this.#ask().finally(() => {
      this.#look = null;
    });
    return this.#look;
  }

  /** Resolves when the service is up. */
  async whenUp(signal) {
    while (!this.up) await until(this, "change", signal);
  }

  async #ask() {
    const { status, body } = await getJson("readyz");
    this.#set(status === 200, typeof body?.status === "string" ? body.status : "unreachable");
    return this.up;
  }

  #set(up, word) {
    const changed = up !== this.up || word !== this.word;
    this.up = up;
    this.word = word;
    if (changed) this.dispatchEvent(new Event("change"));
    if (!up) this.#wait();
  }

  async #wait() {
    if (this.#waiting) return;
    this.#waiting = true;
    for (let turn = 0; !this.up; turn += 1) {
      await pause(1000 * BACK_OFF_S[Math.min(turn, BACK_OFF_S.length - 1)]);
      await this.check();
    }
    this.#waiting = false;
  }
}
