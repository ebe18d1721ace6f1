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

let spoken = null;
let settled = 0;

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
function settle(words) {
  settled += 1;
  say(photos.size === 1 ? words : `${settled} of ${plural(photos.size, "photo")} answered`);
}

const events = {
  answered(photo) {
    board.add(photo);
    settle(photo.card.summary());
  },
  failed(photo, problem) {
    settle(`${photo.name}: ${problem.title}`);
  },
  removed(photo) {
    photos.delete(photo);
    settled = Math.min(settled, photos.size);
    board.remove(photo);
    layOut();
  },
};

/** The drop zone makes room as soon as there are photos. */
function layOut() {
  const some = photos.size > 0;
  document.body.classList.toggle("busy", some);
  byId("photos").hidden = !some;
  byId("photos-title").textContent = some ? plural(photos.size, "photo") : "Photos";
}

function add(files) {
  if (files.length === 0) return;
  const small = byId("shrink").checked;
  const added = files.map((file) => new Photo(file, service, events));
  byId("cards").append(...added.map((photo) => photo.card.element));
  for (const photo of added) {
    photos.add(photo);
    photo.send(small);
  }
  layOut();
  // On a small screen the photos begin below the fold.
  if (window.innerHeight < byId("photos").getBoundingClientRect().top + 200) byId("photos").scrollIntoView({ behavior: "instant" });
}

function opacity() {
  const value = byId("opacity").value;
  document.documentElement.style.setProperty("--opacity", String(value / 100));
  byId("opacity-words").textContent = `${value} %`;
}

/** The last photo that has a small picture. */
const lastPicture = () => [...photos].reverse().find((photo) => photo.small !== null)?.small ?? null;

takeIn(add, () => say("Folders are not read. Drop the photos themselves."));
byId("opacity").addEventListener("input", opacity);
byId("clear").addEventListener("click", () => {
  for (const photo of [...photos]) photo.remove();
  byId("choose").focus();
});
opacity();
showStatus({ health, live, key });
offerBurst({ live, key, health, picture: lastPicture });
health.check();
live.run();
