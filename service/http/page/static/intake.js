// Where photos come from: dropped anywhere, pasted, chosen, or taken with the camera.

import { byId } from "./dom.js";

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;

/** Files of a drop, and how many folders came with them, whose contents are not read. */
function dropped(transfer) {
  const files = [];
  let folders = 0;
  for (const item of transfer.items) {
    if (item.kind !== "file") continue;
    if (item.webkitGetAsEntry?.()?.isDirectory) folders += 1;
    else files.push(item.getAsFile());
  }
  return { files: files.filter((file) => file !== null), folders };
}

function takeDropped(onFiles, onFolders) {
  let depth = 0; // dragenter and dragleave come for every element on the way
  const move = (to) => {
    depth = to;
    document.body.classList.toggle("dragging", depth > 0);
  };
  window.addEventListener("dragenter", (event) => carriesFiles(event) && move(depth + 1));
  window.addEventListener("dragleave", (event) => carriesFiles(event) && move(Math.max(0, depth - 1)));
  window.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  window.addEventListener("drop", (event) => {
    move(0);
    if (!carriesFiles(event)) return;
    event.preventDefault();
    const { files, folders } = dropped(event.dataTransfer);
    if (folders > 0) onFolders();
    onFiles(files);
  });
}

function takePasted(onFiles) {
  let pasted = 0;
  window.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    onFiles(files.map((file) => {
      // A picture that was copied has no name of its own; all are called image.png.
      if (file.name !== "image.png" && file.name !== "") return file;
      pasted += 1;
      return new File([file], `pasted ${pasted}.png`, { type: file.type });
    }));
  });
}

function takeChosen(onFiles) {
  for (const [button, input] of [["choose", "files"], ["take", "camera"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", (event) => {
      onFiles([...event.target.files]);
      event.target.value = ""; // so that the same file can be chosen again
    });
  }
  byId("drop").addEventListener("click", (event) => {
    if (event.target.closest("button, label, input") === null) byId("files").click();
  });
}

/** Calls `onFiles([File])` for whatever arrives, `onFolders()` when a folder was among it. */
export function takeIn(onFiles, onFolders) {
  takeDropped(onFiles, onFolders);
  takePasted(onFiles);
  takeChosen(onFiles);
}
