// Reads {"side": pixels, "jobs": [[svg, png], ...]} from standard input; renders on white.
import { readFileSync, writeFileSync } from "node:fs";
import { Resvg } from "@resvg/resvg-js";

const { side, jobs } = JSON.parse(readFileSync(0, "utf8"));
const options = {
  background: "white",
  fitTo: { mode: "width", value: side },
  font: { loadSystemFonts: false },
};
for (const [svg, png] of jobs) {
  writeFileSync(png, new Resvg(readFileSync(svg, "utf8"), options).render().asPng());
}
