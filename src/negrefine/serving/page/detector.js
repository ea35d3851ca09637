// What the detector is.

import { make, facts, named } from "./dom.js";
import { count, percent, scores, visible, whole } from "./text.js";

const SHOWN = 1000;

/** Return one sentence about a detector, for the top of the page. */
export function summaryOf(detector) {
  const knows = `${detector.title} knows ${count(detector.classes.length, "class name")} here`;
  if (detector.threshold == null) {
    return `${knows}, but has no threshold: it gives scores and nearest classes, and no verdicts.`;
  }
  return `${knows}, and flags images that fit none of them.`;
}

/** Return the promise that the threshold was set for. */
function promiseOf(detector) {
  if (detector.threshold == null) {
    return "None: there is no threshold. Whoever runs the server can set one with \u201cnegrefine calibrate\u201d.";
  }
  if (detector.fpr == null) return "Not recorded: the threshold was set without one, or by an earlier version.";
  const n = detector.n_calibration == null ? "" : `, set with ${count(detector.n_calibration, "calibration image")}`;
  const certainty = detector.delta == null ? "on average over calibrations"
    : `with probability ${percent(1 - detector.delta)}`;
  return `At most ${percent(detector.fpr)} of images that do belong to the classes are flagged, ${certainty}${n}.${promiseByClass(detector)}`;
}

/** Return for which classes the promise holds apart, and for which it does not. */
function promiseByClass(detector) {
  if (detector.by !== "class") return "";
  const n = (kind) => (detector.groups ?? []).filter((group) => group.kind === kind)
    .reduce((sum, group) => sum + group.classes.length, 0);
  const parts = [
    n("class") ? `It holds for images of each of ${count(n("class"), "nearest class", "nearest classes")} with a threshold of its own` : "",
    n("pooled") ? `for ${count(n("pooled"), "class", "classes")} with few calibration images only all together` : "",
    n("all") ? `for ${count(n("all"), "class", "classes")} nothing is promised: they use the threshold of all images` : "",
  ].filter(Boolean);
  return parts.length ? ` ${parts.join("; ")}.` : "";
}

/** Fill a place with all that the server says about a detector. */
export function showDetector(place, detector) {
  const removed = detector.n_removed ? `, ${whole(detector.n_removed)} removed by the filter` : "";
  const threshold = detector.threshold == null ? "none"
    : `${scores(detector.threshold)[0]}${detector.by === "class" ? " for all classes together; each class has its own, in the list below" : ""}`;
  place.replaceChildren(
    facts([
      ["Method", `${detector.title}${detector.paper ? ` (${detector.paper})` : ""}`],
      ["Promised false-alarm rate", promiseOf(detector)],
      ["Threshold of the score", threshold],
    ]),
    classList(detector),
    make("details", {}, make("summary", {}, "Encoder, fingerprints and settings"),
      facts([
        ["Name", named(detector.name)],
        ["Negative labels", detector.n_negatives == null ? null : `${whole(detector.n_negatives)}${removed}`],
        ["Encoder", named(detector.encoder?.name ?? "")],
        ["Fingerprint of the encoder", code(detector.encoder?.fingerprint)],
        ["Fingerprint of the detector", code(detector.identity)],
        ["Version as saved", code(detector.version)],
        ...Object.entries(detector.parameters ?? {}).map(([name, value]) => [visible(name), code(JSON.stringify(value))]),
      ], "facts settings")),
  );
}

const code = (value) =>
  value == null ? null : make("code", {}, visible(typeof value === "string" ? value : JSON.stringify(value)));

/** Return the class names, with a field that searches them if there are many. */
function classList(detector) {
  const names = detector.classes;
  const list = make("ol", { class: "classes", tabindex: "0", "aria-label": "Class names" });
  const told = make("p", { class: "faint", role: "status" });
  const own = ownThresholds(detector);
  const search = (text) => {
    const wanted = text.trim().toLowerCase();
    const found = names.map((name, i) => i).filter((i) => visible(names[i]).toLowerCase().includes(wanted));
    list.replaceChildren(...found.slice(0, SHOWN).map((i) =>
      make("li", {}, named(names[i]), own[i] ? make("small", {}, ` ${own[i]}`) : null)));
    const cut = found.length > SHOWN ? ` The first ${whole(SHOWN)} are shown: search for others.` : "";
    told.textContent = wanted || cut ? `${whole(found.length)} of ${whole(names.length)} names.${cut}` : "";
  };
  const field = make("input", { type: "search", id: "class-search", autocomplete: "off",
    oninput: () => search(field.value) });
  const finder = names.length > 12
    ? make("p", { class: "search" }, make("label", { for: "class-search" }, "Search the class names"), field) : null;
  const details = make("details", { open: names.length <= 12 },
    make("summary", {}, count(names.length, "class name")), finder, told, list);
  search("");
  return details;
}

function ownThresholds(detector) {
  const words = [];
  for (const group of detector.by === "class" ? detector.groups ?? [] : []) {
    const which = { class: "its own", pooled: "shared with other classes", all: "of all images" }[group.kind];
    for (const i of group.classes) words[i] = `threshold ${scores(group.threshold)[0]}, ${which}, ${count(group.n, "image")}`;
  }
  return words;
}
