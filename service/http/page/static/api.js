// One request to the service and what came of it. Addresses are relative: the page may lie behind a path prefix.

import { parseTiming } from "./timing.js";

/** Longer than any deadline of the service; only a dead connection takes that long. */
const PATIENCE_MS = 180_000;

const readable = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};

/** A problem to show: the service's own, or one made of the status where something in between answered. */
function problemOf(status, body) {
  if (body && typeof body.title === "string") return { status, title: body.title, detail: String(body.detail ?? "") };
  return { status, title: `Error ${status}`, detail: "the answer did not come from the service itself" };
}

/** Retry-After in seconds; null where there is none. */
function retryAfter(header) {
  const count = Number.parseInt(header ?? "", 10);
  return Number.isFinite(count) && count >= 0 ? count : null;
}

/**
 * POSTs `body` with upload progress. Resolves in every case but an abort, which rejects:
 * {status, body, problem, timing, retryAfter}; status 0 is a connection that could not be made or broke.
 */
export function post(path, body, { key, signal, onProgress, onSent }) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open("POST", path);
    request.timeout = PATIENCE_MS;
    request.setRequestHeader("Content-Type", body.type.startsWith("image/") ? body.type : "application/octet-stream");
    request.setRequestHeader("Accept", "application/json");
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    request.upload.addEventListener("progress", ({ lengthComputable, loaded, total }) => {
      if (lengthComputable) onProgress?.(loaded / total);
    });
    request.upload.addEventListener("load", () => onSent?.());
    request.addEventListener("loadend", () => {
      signal?.removeEventListener("abort", stop);
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const { status } = request;
      const answer = status === 0 ? null : readable(request.responseText);
      const good = status === 200 && answer !== null;
      resolve({
        status: status === 200 && !good ? 502 : status,
        body: answer,
        problem: good || status === 0 ? null : problemOf(status, answer),
        timing: parseTiming(request.getResponseHeader("Server-Timing")),
        retryAfter: retryAfter(request.getResponseHeader("Retry-After")),
      });
    });
    signal?.addEventListener("abort", stop, { once: true });
    request.send(body);
  });
}

/** GETs `path`; {status, text}, status 0 where nothing answers within `ms`. */
export async function get(path, { key, ms = 4000 } = {}) {
  try {
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(ms) });
    return { status: answer.status, text: await answer.text() };
  } catch {
    return { status: 0, text: "" };
  }
}

/** The same, its JSON as `body`; null where it is none. */
export async function getJson(path, options) {
  const { status, text } = await get(path, options);
  return { status, body: readable(text) };
}
