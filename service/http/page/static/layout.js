// The photos in a plane, by their two principal components: what is alike lies near.

import { el } from "./dom.js";

/** Puts copies of the entries' small pictures into `field` at `points`. */
export function layOut(field, entries, points) {
  const spread = (axis) => {
    const values = points.map((point) => point[axis]);
    return [Math.min(...values), Math.max(...values)];
  };
  const [left, right] = spread(0);
  const [bottom, top] = spread(1);
  // One scale for both axes: a distance means the same in every direction.
  const width = field.clientWidth || 400;
  const height = field.clientHeight || 300;
  const side = entries.length > 60 ? 28 : entries.length > 24 ? 38 : Math.min(68, width / 6);
  const fit = (room, extent) => (room - side - 8) / Math.max(extent, 1e-9);
  const scale = Math.min(fit(width, right - left), fit(height, top - bottom));
  field.replaceChildren(
    ...entries.map(({ name, square }, index) => {
      const [x, y] = points[index];
      const spot = el("span", { class: "spot", title: name, "data-index": index });
      if (square) {
        const picture = el("canvas", { width: square.width, height: square.height, "aria-hidden": "true" });
        picture.getContext("2d").drawImage(square, 0, 0);
        spot.append(picture);
      }
      spot.style.width = `${side}px`;
      spot.style.height = `${side}px`;
      spot.style.left = `${(width - side) / 2 + (x - (left + right) / 2) * scale}px`;
      spot.style.top = `${(height - side) / 2 - (y - (bottom + top) / 2) * scale}px`;
      return spot;
    }),
  );
}

/** Marks the photos `indices`, which lie on top of the others then. */
export function markSpots(field, indices) {
  for (const spot of field.children) spot.classList.toggle("marked", indices.includes(Number(spot.dataset.index)));
}
