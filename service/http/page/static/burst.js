// Fifty requests at once, so that one sees the service gather them into batches.

import { post } from "./api.js";
import { byId } from "./dom.js";
import { generated } from "./thumbnail.js";
import { total } from "./timing.js";
import { digits } from "./words.js";

const COUNT = 50;

/** `picture()` gives the JPEG to send, or null. */
export function offerBurst({ live, key, health, picture }) {
  const button = byId("burst");
  const words = byId("burst-words");
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true"); // it keeps the focus
    words.textContent = "Sending …";
    try {
      words.textContent = await burst(live, key.value, picture() ?? (await generated()));
    } finally {
      button.removeAttribute("aria-disabled");
      if (!health.up) words.textContent = "The service cannot be reached.";
    }
  });
}

/** Sends `body` and tells what came of it in a sentence. */
async function burst(live, key, body) {
  const before = await live.sample();
  const started = performance.now();
  const outcomes = await Promise.all(Array.from({ length: COUNT }, () => post("classify?top_k=1", body, { key })));
  const took = (performance.now() - started) / 1000;
  const after = await live.sample();
  const answered = outcomes.filter(({ status }) => status === 200);
  const refused = outcomes.filter(({ status }) => status === 429 || status === 503).length;
  const failed = COUNT - answered.length - refused;
  const counts = `${answered.length} answered, ${refused} refused${failed > 0 ? `, ${failed} failed` : ""}`;
  const parts = [`${counts} in ${took.toFixed(2)} s`];
  if (answered.length > 0) {
    const times = answered.map(({ timing }) => total(timing)).sort((a, b) => a - b);
    parts.push(`${digits(times[times.length >> 1])} ms each in the service, ${digits(times.at(-1))} at most`);
  }
  const batches = before && after ? after.batches - before.batches : 0;
  if (batches > 0) parts.push(`${((after.batched - before.batched) / batches).toFixed(1)} images per batch`);
  return `${parts.join("; ")}.`;
}
