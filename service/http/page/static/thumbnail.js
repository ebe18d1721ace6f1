// Small pictures of photos, made in the browser: decoded and scaled away from the page's own thread, then let go.

const LONGEST = 640;
const MINI = 96;

/** Upright width and height of `blob`; null where the browser cannot read it. Nothing is decoded for it. */
async function measure(blob) {
  const url = URL.createObjectURL(blob);
  try {
    const image = new Image();
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(new Error("no picture"));
      image.src = url;
    });
    return image.naturalWidth > 0 && image.naturalHeight > 0 ? { width: image.naturalWidth, height: image.naturalHeight } : null;
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
  const options = { resizeWidth: width, resizeHeight: height, resizeQuality: "medium", imageOrientation: "from-image" };
  const bitmap = await createImageBitmap(blob, options);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return canvas;
}

function square(source) {
  const side = Math.min(source.width, source.height);
  const mini = document.createElement("canvas");
  mini.width = MINI;
  mini.height = MINI;
  const context = mini.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(source, (source.width - side) / 2, (source.height - side) / 2, side, side, 0, 0, MINI, MINI);
  return mini;
}

/** `width` × `height` times `scale`, never enlarged. */
function fitted({ width, height }, scale) {
  const by = Math.min(1, scale);
  return [Math.max(1, Math.round(width * by)), Math.max(1, Math.round(height * by))];
}

/** A picture for a file that the browser cannot show. */
function neutral(name) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [480, 360];
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

/** {blob, mini, width, height, shown}: a JPEG of at most 640 pixels, a small square, the upright size if it is known. */
export async function thumbnail(file) {
  const size = await measure(file);
  let canvas = null;
  if (size !== null) {
    try {
      canvas = await drawn(file, ...fitted(size, LONGEST / Math.max(size.width, size.height)));
    } catch {
      canvas = null;
    }
  }
  const picture = canvas ?? neutral(file.name ?? "");
  const result = { blob: await encode(picture, 0.88), mini: square(picture), shown: canvas !== null, ...(size ?? { width: 4, height: 3 }) };
  picture.width = 0; // gives its memory back now
  return result;
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
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [320, 240];
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
