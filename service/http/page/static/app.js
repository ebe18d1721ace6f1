// The page: makes its parts, knows the photos, and connects the two. The only state that parts share is here.

import { Board } from "./board.js";
import { offerBurst } from "./burst.js";
import { byId } from "./dom.js";
import { Health } from "./health.js";
import { takeIn } from "./intake.js";
import { Key } from "./key.js";
import { Lane } from "./lane.js";
import { Live } from "./live.js";
import { Photo } from "./photo.js";
import { showStatus } from "./status.js";
import { plural } from "./words.js";

const UPLOADS = 4; // of six connections that a browser makes: the status needs one as well
const THUMBNAILS = 2; // a photo of 12 megapixels takes 48 MB while it is decoded

const key = new Key();
const health = new Health();
const live = new Live(health, key);
const board = new Board();
const service = { health, key, uploads: new Lane(UPLOADS), thumbnails: new Lane(THUMBNAILS) };
const photos = new Set();

const settled = new Set(); // those of them that have an answer or an error
let spoken = null;

/** Tells a screen reader the last thing said, not more than once in two seconds. */
function say(words) {
  if (spoken === null) {
    setTimeout(() => {
      byId("say").textContent = spoken;
      spoken = null;
    }, 2000);
  }
  spoken = words;
}

/** One photo: what it shows; several: how far they are. */
function settle(photo, words) {
  settled.add(photo);
  say(photos.size === 1 ? words : `${settled.size} of ${plural(photos.size, "photo")} answered`);
}

const events = {
  answered(photo) {
    board.add(photo);
    settle(photo, photo.card.summary());
  },
  failed(photo, problem) {
    settle(photo, `${photo.name}: ${problem.title}`);
  },
  removed(photo) {
    photos.delete(photo);
    settled.delete(photo);
    board.remove(photo);
    makeRoom();
  },
};

/** The drop zone makes room as soon as there are photos. */
function makeRoom() {
  const some = photos.size > 0;
  document.body.classList.toggle("busy", some);
  byId("photos").hidden = !some;
  byId("photos-title").textContent = some ? plural(photos.size, "photo") : "Photos";
}

function add(files) {
  if (files.length === 0) return;
  const shrunk = byId("shrink").checked;
  const added = files.map((file) => new Photo(file, service, events));
  byId("cards").append(...added.map((photo) => photo.card.element));
  for (const photo of added) {
    photos.add(photo);
    photo.send({ shrunk });
  }
  makeRoom();
  // On a small screen the photos begin below the fold.
  const { top } = byId("photos").getBoundingClientRect();
  if (window.innerHeight < top + 200) byId("photos").scrollIntoView({ behavior: "instant" });
}

function setOpacity() {
  const value = byId("opacity").value;
  document.documentElement.style.setProperty("--opacity", String(value / 100));
  byId("opacity-words").textContent = `${value} %`;
}

/** The newest thumbnail; null where there is none. */
const lastThumbnail = () => [...photos].findLast(({ thumbnail }) => thumbnail !== null)?.thumbnail ?? null;

takeIn(add, () => say("Folders are not read. Drop the photos themselves."));
byId("opacity").addEventListener("input", setOpacity);
byId("clear").addEventListener("click", () => {
  for (const photo of [...photos]) photo.remove();
  byId("choose").focus();
});
setOpacity();
showStatus({ health, live, key });
offerBurst({ live, key, health, picture: lastThumbnail });
health.check();
live.run();
