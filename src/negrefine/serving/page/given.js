// Files from a person: chosen, dropped anywhere on the page, or pasted.

import { byId } from "./dom.js";

/** Call `take(files)` with what is given, and `tell(sentence)` about what is no file. */
export function givenFiles(take, tell) {
  const input = byId("files");
  input.addEventListener("change", () => {
    take([...input.files]);
    // The same file may be chosen again.
    input.value = "";
  });

  const curtain = byId("curtain");
  let inside = 0;
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const drawCurtain = () => (curtain.hidden = inside === 0);
  addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    inside += 1;
    drawCurtain();
  });
  addEventListener("dragleave", (event) => {
    if (!holdsFiles(event)) return;
    inside = Math.max(0, inside - 1);
    drawCurtain();
  });
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    // Else the browser would open the file in place of the page.
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    inside = 0;
    drawCurtain();
    const folders = new Set([...event.dataTransfer.items]
      .map((item) => item.webkitGetAsEntry?.())
      .filter((entry) => entry?.isDirectory)
      .map((entry) => entry.name));
    take([...event.dataTransfer.files].filter((file) => !(folders.has(file.name) && !file.type)));
    if (folders.size) tell("Folders are not read here: drop the images that are in them.");
  });

  let pasted = 0;
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    // Browsers call every picture of the clipboard image.png.
    take(files.map((file) => {
      if (file.name !== "image.png") return file;
      pasted += 1;
      return new File([file], `pasted image ${pasted}.png`, { type: file.type });
    }));
  });
}
