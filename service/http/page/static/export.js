// Embeddings as files: CSV with names, and NumPy's own format.

import { el } from "./dom.js";

/** A name as a field; one that a spreadsheet would take for a formula gets an apostrophe before it. */
function quoted(name) {
  const text = /^[=+\-@\t]/.test(name) ? `'${name}` : name;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** One line a photo: its name, then its features. `entries` are {name, vector}. */
export function csv(entries) {
  const length = entries[0].vector.length;
  const head = ["name", ...Array.from({ length }, (_, index) => `f${index}`)];
  // Nine digits give every float32 back exactly.
  const digits = (vector) => Array.from(vector, (value) => Number(value.toPrecision(9)));
  const lines = entries.map(({ name, vector }) => [quoted(name), ...digits(vector)].join(","));
  return new Blob([[head.join(","), ...lines, ""].join("\r\n")], { type: "text/csv" });
}

/** A float32 array of shape (photos, features) as numpy.load reads it. */
export function npy(entries) {
  const [rows, columns] = [entries.length, entries[0].vector.length];
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${columns}), }`;
  const preamble = 10; // magic, version, length of the header
  const length = Math.ceil((preamble + text.length + 1) / 64) * 64;
  const file = new DataView(new ArrayBuffer(length + 4 * rows * columns));
  [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0].forEach((byte, index) => file.setUint8(index, byte));
  file.setUint16(8, length - preamble, true);
  const header = `${text.padEnd(length - preamble - 1)}\n`;
  for (let index = 0; index < header.length; index += 1) file.setUint8(preamble + index, header.charCodeAt(index));
  entries.forEach(({ vector }, row) => {
    vector.forEach((value, column) => file.setFloat32(length + 4 * (row * columns + column), value, true));
  });
  return new Blob([file.buffer], { type: "application/octet-stream" });
}

/** Lets the browser save `blob` under `name`. */
export function save(blob, name) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser may still be asking where to put it
}
