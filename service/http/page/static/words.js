// Numbers, warnings and errors in words for people.

/** 0.978 as "98 %". */
export function percent(share) {
  if (share >= 0.0995) return `${Math.round(share * 100)} %`;
  if (share >= 0.001) return `${(share * 100).toFixed(1)} %`;
  return "< 0.1 %";
}

/** A number short: "0", "1.8", "52". */
export const digits = (value) => value.toFixed(value >= 10 || value === 0 ? 0 : 1);

/** Bytes as "2.1 MB". */
export function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  if (count < 1e6) return `${Math.round(count / 1000)} kB`;
  return `${(count / 1e6).toFixed(1)} MB`;
}

/** "1 photo", "2 photos". */
export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** Whole seconds: "1 second". */
export const seconds = (count) => plural(Math.max(1, Math.round(count)), "second");

const TURNED = {
  2: "This photo was stored mirrored; it was turned back.",
  3: "This photo was stored upside down; it was turned upright.",
  4: "This photo was stored upside down and mirrored; it was turned upright.",
  5: "This photo was stored on its side and mirrored; it was turned upright.",
  6: "This photo was stored on its side; it was turned upright.",
  7: "This photo was stored on its side and mirrored; it was turned upright.",
  8: "This photo was stored on its side; it was turned upright.",
};

/** A warning of the service as a sentence; one that is not known here stays as it is. */
export function plainWarning(warning) {
  const turned = /^EXIF orientation (\d) applied$/.exec(warning);
  if (turned && TURNED[turned[1]]) return TURNED[turned[1]];
  if (warning.startsWith("several frames or pages")) {
    return "This file has several frames or pages; only the first was looked at.";
  }
  if (warning.startsWith("EXIF is damaged")) {
    return "The camera's notes in this file are damaged, so it was not turned; it may lie on its side.";
  }
  return sentence(warning);
}

/** A clause as a sentence: a capital at the start, a full stop at the end. */
export function sentence(clause) {
  const text = clause.trim();
  if (text === "") return "";
  const end = /[.!?]$/.test(text) ? "" : ".";
  return text[0].toUpperCase() + text.slice(1) + end;
}

const STATES = {
  ok: "Ready",
  connecting: "Connecting",
  starting: "Starting",
  draining: "Shutting down",
  unreachable: "Cannot be reached",
  failing: "Model failing",
  late: "Model stuck",
};

/** What /readyz said, in words. */
export const stateWords = (word) => STATES[word] ?? sentence(word).replace(/\.$/, "");
