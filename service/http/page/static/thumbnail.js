// Small pictures of photos, made in the browser: decoded and scaled away from the page's own thread, then let go.

import { el } from "./dom.js";

const LONGEST = 640;
const SQUARE = 96;

/** Upright width and height of `blob`; null where the browser cannot read it. Nothing is decoded for it. */
async function measure(blob) {
  const url = URL.createObjectURL(blob);
  try {
    const image = new Image();
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
      image.src = url;
    });
    const { naturalWidth: width, naturalHeight: height } = image;
    return width > 0 && height > 0 ? { width, height } : null;
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(url);
  }
}

function encode(canvas, quality) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

/** `blob` drawn upright at `width` × `height`, over white as the service does it. */
async function drawn(blob, width, height) {
  const bitmap = await createImageBitmap(blob, {
    resizeWidth: width,
    resizeHeight: height,
    resizeQuality: "medium",
    imageOrientation: "from-image",
  });
  const canvas = el("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return canvas;
}

/** The middle of `source`, small. */
function square(source) {
  const side = Math.min(source.width, source.height);
  const [left, top] = [(source.width - side) / 2, (source.height - side) / 2];
  const canvas = el("canvas", { width: SQUARE, height: SQUARE });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(source, left, top, side, side, 0, 0, SQUARE, SQUARE);
  return canvas;
}

/** `width` × `height` times `scale`, never enlarged. */
function fitted({ width, height }, scale) {
  const by = Math.min(1, scale);
  return [Math.max(1, Math.round(width * by)), Math.max(1, Math.round(height * by))];
}

/** A picture for a file that the browser cannot show. */
function neutral(name) {
  const canvas = el("canvas", { width: 480, height: 360 });
  const context = canvas.getContext("2d");
  context.fillStyle = "#77727d";
  context.fillRect(0, 0, 480, 360);
  context.fillStyle = "#fff";
  context.textAlign = "center";
  context.font = "600 56px system-ui, sans-serif";
  const kind = /\.([A-Za-z0-9]{1,5})$/.exec(name)?.[1] ?? "file";
  context.fillText(kind.toUpperCase(), 240, 200);
  return canvas;
}

/**
 * {blob, square, width, height, shown}: a JPEG of at most 640 pixels, a small square, the upright size or one made up,
 * and whether it is the photo that they show.
 */
export async function thumbnail(file) {
  const size = await measure(file);
  const scale = size && LONGEST / Math.max(size.width, size.height);
  const photo = size && (await drawn(file, ...fitted(size, scale)).catch(() => null));
  const canvas = photo ?? neutral(file.name);
  const made = { blob: await encode(canvas, 0.88), square: square(canvas), shown: photo !== null };
  canvas.width = 0; // gives its memory back now
  return { ...made, ...(size ?? { width: 4, height: 3 }) };
}

/** `file` with its shorter side at `side` pixels as a JPEG; null where that would not make it smaller. */
export async function shrink(file, side, quality) {
  const size = await measure(file);
  if (size === null) return null;
  const [width, height] = fitted(size, side / Math.min(size.width, size.height));
  try {
    const canvas = await drawn(file, width, height);
    const blob = await encode(canvas, quality);
    canvas.width = 0;
    return blob !== null && blob.size < file.size ? { blob, width, height } : null;
  } catch {
    return null;
  }
}

/** A small picture for requests where there is no photo yet. */
export async function generated() {
  const canvas = el("canvas", { width: 320, height: 240 });
  const context = canvas.getContext("2d");
  const sky = context.createLinearGradient(0, 0, 0, 240);
  sky.addColorStop(0, "#3b0f70");
  sky.addColorStop(0.6, "#de4968");
  sky.addColorStop(1, "#fcfdbf");
  context.fillStyle = sky;
  context.fillRect(0, 0, 320, 240);
  context.fillStyle = "#fe9f6d";
  context.beginPath();
  context.arc(210, 130, 44, 0, 7);
  context.fill();
  return encode(canvas, 0.9);
}
