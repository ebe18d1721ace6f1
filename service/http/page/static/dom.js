// Small helpers for building elements. Text is always set as text, never as markup.

/** An element of `tag`; `attributes` may hold `class`, `text`, `on` ({event: listener}), and any attribute. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** The element with this id; it is in the page. */
export const byId = (id) => document.getElementById(id);

/** Resolves after `ms` milliseconds; rejects when `signal` aborts. */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(done, ms);
    function done() {
      signal?.removeEventListener("abort", stop);
      resolve();
    }
    function stop() {
      clearTimeout(timer);
      reject(signal.reason);
    }
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Resolves when `target` fires `event`; rejects when `signal` aborts. */
export function until(target, event, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    function done() {
      target.removeEventListener(event, done);
      signal?.removeEventListener("abort", stop);
      resolve();
    }
    function stop() {
      target.removeEventListener(event, done);
      reject(signal.reason);
    }
    target.addEventListener(event, done);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Sizes `canvas` to `width` × `height` CSS pixels at the screen's density; its context, in CSS pixels. */
export function sized(canvas, width, height) {
  const density = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = Math.max(1, Math.round(width * density));
  canvas.height = Math.max(1, Math.round(height * density));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  return context;
}

/** A colour of the style sheet, by the name of its custom property. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
