// Renders the SVGs of a JSON Lines file from a line on, appending raw RGBA squares to another file.
// Prints the number of each line when its square is written: resvg ends the process on a few icons.
import { appendFileSync, readFileSync } from "node:fs";
import { Resvg } from "@resvg/resvg-js";

const [jobs, target, first, side] = process.argv.slice(2);
const lines = readFileSync(jobs, "utf8").trimEnd().split("\n");
for (let i = Number(first); i < lines.length; i++) {
  const image = new Resvg(JSON.parse(lines[i]).svg, {
    fitTo: { mode: "width", value: Number(side) },
    font: { loadSystemFonts: false },
  }).render();
  const square = Buffer.alloc(side * side * 4);
  image.pixels.copy(square, 0, 0, Math.min(image.pixels.length, square.length));
  appendFileSync(target, square);
  console.log(i);
}
