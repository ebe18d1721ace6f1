// One photo's request, with patience: waits while the service is down, busy or wants a key, and knows when to give up.

import { post } from "./api.js";
import { pause } from "./wait.js";
import { bytes, seconds } from "./words.js";

const MOST_BUSY = 6;
const MOST_CUTS = 3;
const MOST_OUTAGES = 6;

/** The service's own default limit of a body; a connection that breaks above it was most likely cut for that. */
const LIKELY_LIMIT = 16 * 2 ** 20;

/** Statuses of a service that is busy, and of one that is ending or gone: only readiness tells which. */
const AWAY = new Set([0, 502, 503]);

/** Statuses where the very same request may succeed later. */
const AGAIN = new Set([0, 429, 500, 502, 503, 504]);

const tooLarge = (size) => ({
  status: 413,
  title: "Too large to send",
  detail:
    `this file has ${bytes(size)}, and the service broke off the upload; ` +
    `it accepts ${bytes(LIKELY_LIMIT)} unless it is set up otherwise`,
});

const CUT = {
  status: 0,
  title: "The connection broke off",
  detail:
    "the service can be reached, but sending this photo failed several times; " +
    "the file may be too large, or may have changed on the disk",
};

const GONE = {
  status: 0,
  title: "The service went away",
  detail: "each time this photo was sent the service became unreachable",
};

/**
 * Sends `body` to `path`. Resolves to {answer} or {problem, again, tooLarge}; rejects only when `signal` aborts.
 * `onWait(words)` is told why nothing happens, `onProgress(share)` and `onSent()` how the upload goes.
 */
export async function deliver(path, body, { health, key, signal, onWait, onProgress, onSent }) {
  const failed = (problem) => ({ problem, again: AGAIN.has(problem.status), tooLarge: problem.status === 413 });
  let [busy, cuts, outages] = [0, 0, 0];
  for (;;) {
    if (!health.up) onWait?.("Waits until the service is back");
    await health.whenUp(signal);
    if (key.asking) onWait?.("Waits for the API key");
    await key.known(signal);
    const used = key.value;
    const answer = await post(path, body, { key: used, signal, onProgress, onSent });
    if (answer.status === 200) return { answer };
    const away = AWAY.has(answer.status);
    if (answer.status === 401) {
      key.refused(used);
    } else if (away && !(await health.check())) {
      if (++outages > MOST_OUTAGES) return failed(answer.problem ?? GONE);
    } else if (answer.status === 0) {
      if (body.size > LIKELY_LIMIT) return failed(tooLarge(body.size));
      if (++cuts >= MOST_CUTS) return failed(CUT);
      onWait?.("The connection broke off; trying again");
      await pause(1000 * cuts, signal);
    } else if (away || answer.status === 429) {
      if (++busy > MOST_BUSY) return failed(answer.problem);
      await countDown(answer, busy, signal, onWait);
    } else {
      return failed(answer.problem);
    }
  }
}

/** Waits as long as the service asks, and each time a little longer, never all photos at the same moment. */
async function countDown(answer, turn, signal, onWait) {
  let left = Math.min(Math.max(answer.retryAfter ?? 1, 1) + (turn - 1), 60);
  for (; left > 0; left -= 1) {
    onWait?.(`The service is busy. Tries again in ${seconds(left)}`);
    await pause(1000, signal);
  }
  await pause(Math.random() * 400, signal);
}
