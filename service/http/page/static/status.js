// The status strip and the banner: what is served, whether it is ready, and how it is going.

import { getJson } from "./api.js";
import { byId, colour, sized } from "./dom.js";
import { HISTORY } from "./live.js";
import { digits, stateWords } from "./words.js";

const [WIDTH, HEIGHT] = [180, 40]; // of the sparkline, in CSS pixels
const AGAIN = 5; // samples: as often it asks what is served, which may change while the service runs
const RUNTIMES = { openvino: "OpenVINO", torch: "torch" };

/** Connects the strip to what it shows. */
export function showStatus({ health, live, key }) {
  let known = false;
  let samples = 0;
  const model = async () => {
    const used = key.value;
    const { status, body } = await getJson("models", { key: used });
    if (status === 401) key.refused(used);
    if (status !== 200 || !body) return;
    const [served, ...others] = body.models; // the default model's stable version comes first
    const { runtime } = served;
    known = runtime !== null;
    byId("model").textContent = `${served.name}, version ${served.version}`;
    byId("others").textContent = others.flatMap((other) => otherWords(other, served)).join("; ");
    byId("runtime").textContent = runtime
      ? `${RUNTIMES[runtime.name] ?? runtime.name} on ${runtime.device.toUpperCase()}, ${runtime.precision}`
      : "The model is being loaded";
    if (runtime) byId("batch").dataset.most = runtime.max_batch_size;
  };
  const state = () => {
    byId("state").textContent = stateWords(health.word);
    byId("dot").dataset.state = health.up ? (health.word === "ok" ? "up" : "unknown") : "down";
    byId("banner").textContent = health.up ? "" : banner(health.word);
    if (health.up && health.word === "ok") model();
    // The last figures of a service that is gone say nothing about now.
    if (!health.up) for (const id of ["rate", "queue", "flight", "batch"]) byId(id).textContent = "–";
  };
  health.addEventListener("change", state);
  key.addEventListener("given", model);
  live.addEventListener("sample", () => {
    figures(live);
    samples += 1;
    if ((!known || samples % AGAIN === 0) && health.up && !key.asking) model();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => sparkline(live.history));
  window.addEventListener("resize", () => sparkline(live.history));
  state();
  sparkline([]);
}

/** Such as "canary: version 2", or for another model "pets, version 1"; nothing for what only waits for a rollback. */
function otherWords({ name, version, aliases }, served) {
  const whose = name === served.name ? "" : `${name}, `;
  return aliases.map((alias) => `${whose}${alias === "stable" ? "" : `${alias}: `}version ${version}`);
}

function banner(word) {
  const rest = "Photos wait here and are sent as soon as it is back.";
  if (word === "starting") return `The service is starting. ${rest}`;
  if (word === "draining" || word === "closed") return `The service is shutting down. ${rest}`;
  if (word === "unreachable") return `The service cannot be reached. ${rest}`;
  return `The service is not ready (${stateWords(word).toLowerCase()}). ${rest}`;
}

function figures({ now, history }) {
  byId("rate").textContent = digits(now.rate);
  byId("queue").textContent = String(now.queue);
  byId("flight").textContent = now.limit > 0 ? `${now.flight} of ${now.limit}` : String(now.flight);
  const batch = byId("batch");
  const most = batch.dataset.most ? ` of ${batch.dataset.most}` : "";
  batch.textContent = now.batch === null ? "–" : now.batch.toFixed(1) + most;
  sparkline(history);
}

/** One bar a second, the newest on the right; a line of small ticks where nothing happened. */
function sparkline(history) {
  const canvas = byId("history");
  const context = sized(canvas, WIDTH, HEIGHT);
  const step = WIDTH / HISTORY;
  const most = Math.max(...history, 10);
  for (let slot = 0; slot < HISTORY; slot += 1) {
    const rate = history[history.length - HISTORY + slot] ?? 0;
    const tall = Math.max(2, (rate / most) * HEIGHT);
    context.fillStyle = colour(rate > 0 ? "--accent" : "--line");
    context.fillRect(slot * step, HEIGHT - tall, step - 2, tall);
  }
  const [last, highest] = [history.at(-1) ?? 0, Math.max(...history, 0)].map(Math.round);
  canvas.setAttribute("aria-label", `Images per second over the last half minute: now ${last}, at most ${highest}`);
}
