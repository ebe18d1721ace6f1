// The API key: asked for when the service answers 401, kept in memory for this tab, nowhere else.

import { byId } from "./dom.js";
import { until } from "./wait.js";

export class Key extends EventTarget {
  value = "";
  /** True while a key is asked for. */
  asking = false;

  constructor() {
    super();
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const offered = byId("key").value.trim();
      if (offered === "") return;
      this.value = offered;
      this.asking = false;
      byId("key").value = "";
      byId("key-error").textContent = "";
      byId("key-form").hidden = true;
      this.dispatchEvent(new Event("given"));
    });
  }

  /** The service refused `used`. A newer key may have been given meanwhile: then nothing is asked. */
  refused(used) {
    if (this.asking || used !== this.value) return;
    this.asking = true;
    byId("key-form").hidden = false;
    if (used !== "") byId("key-error").textContent = "The service does not accept this key.";
    byId("key").focus();
  }

  /** Resolves when no key is asked for. */
  async known(signal) {
    while (this.asking) await until(this, "given", signal);
  }
}
