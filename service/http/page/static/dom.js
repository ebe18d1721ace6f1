// Elements, canvases and colours of the page. Text is always set as text, never as markup.

/** An element of `tag`. `attributes`: `text`, `on` ({event: listener}), and any other; true is one without a value. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children);
  return node;
}

/** The element with this id; it is in the page. */
export const byId = (id) => document.getElementById(id);

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
