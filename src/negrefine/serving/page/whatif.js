// What another false-alarm rate would change, for the images of this page.

import { byId, make, named, say } from "./dom.js";
import { changeOf, groupsOf, parsePercent, percentText, rankOf, smallestPercent } from "./rates.js";
import { count, percent, visible } from "./text.js";

// Where the slider stops, in percent: finer where thresholds usually are.
const STOPS = [
  ...range(1, 10).map((i) => i / 10), ...range(3, 20).map((i) => i / 2), ...range(11, 20),
  ...range(5, 10).map((i) => 5 * i),
];
const LISTED = 20;

function range(first, last) {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** The slider, the field, and what they say. `onchange()` is called when the rate changes. */
export class WhatIf {
  constructor(onchange) {
    this.onchange = onchange;
    this.stops = STOPS;
    this.detector = null;
    this.rate = null;
    this.slider = byId("rate-slider");
    this.field = byId("rate");
    this.slider.addEventListener("input", () => {
      this.field.value = String(this.stops[this.slider.value]);
      this.read();
    });
    this.field.addEventListener("input", () => this.read());
    byId("rate-reset").addEventListener("click", () => {
      this.reset();
      this.field.focus();
    });
  }

  /** Begin with the rate of another detector, null while none is known. */
  setDetector(detector) {
    this.detector = detector;
    const own = this.ownPercent();
    const stops = new Set([...STOPS, ...(own ? [Number(own)] : [])]);
    this.stops = [...stops].sort((a, b) => a - b);
    this.slider.max = String(this.stops.length - 1);
    byId("rate-reset").textContent = own ? `Back to the server\u2019s ${own}\u00a0%` : "";
    this.reset();
  }

  ownPercent() {
    return this.detector?.fpr == null ? "" : percentText(this.detector.fpr);
  }

  reset() {
    this.field.value = this.ownPercent();
    this.read();
  }

  read() {
    this.rate = parsePercent(this.field.value);
    const error = byId("rate-error");
    const wrong = this.rate === null && (this.field.value !== "" || this.ownPercent() !== "");
    error.hidden = !wrong;
    say(error, wrong ? "Give a percentage above 0 and below 100, such as 5 or 0.5." : "");
    this.field.setAttribute("aria-invalid", String(wrong));
    if (this.rate) {
      const value = this.percent();
      const nearest = this.stops.reduce((best, stop, i) =>
        Math.abs(stop - value) < Math.abs(this.stops[best] - value) ? i : best, 0);
      this.slider.value = String(nearest);
      this.slider.setAttribute("aria-valuetext", this.words());
    }
    const own = this.ownPercent();
    byId("rate-reset").hidden = !own || (this.rate !== null && this.percent() === Number(own));
    this.onchange();
  }

  percent() {
    return (100 * Number(this.rate.digits)) / 10 ** this.rate.scale;
  }

  /** Return the rate as it was written. */
  words() {
    return `${this.field.value.replace(/[\s%]/g, "").replace(",", ".")}\u00a0%`;
  }

  /** Return "flag", "accept", "same" or "unknown" for an item, null where nothing is asked. */
  changeOf(item) {
    if (!this.rate || !this.scores(item)) return null;
    return changeOf(item.row, this.detector, this.rate);
  }

  /** Return whether this version of the detector scored an item. */
  scores(item) {
    return Boolean(item.row && item.detector === this.detector?.name && item.version === this.detector.version);
  }

  /** Say what changes for the items of the page. */
  show(items) {
    const scored = items.filter((item) => this.scores(item));
    const changes = scored.map((item) => ({ item, change: this.changeOf(item) }));
    const flips = changes.filter(({ change }) => change === "flag" || change === "accept");
    const unknown = changes.filter(({ change }) => change === "unknown").length;
    const possible = this.possible();
    byId("rate-controls").hidden = !possible;
    if (!possible) byId("rate-reset").hidden = true;
    say(byId("whatif-text"), possible ? this.sentence(scored.length, flips, unknown) : this.whyNot());
    say(byId("whatif-note"), possible ? this.note() : "");
    const lines = flips.slice(0, LISTED).map(({ item, change }) => make("li", {},
      make("a", { href: `#${item.id}` }, named(item.name)),
      make("span", { class: change }, change === "flag" ? " would be flagged" : ` would count as ${visible(item.row.nearest_class)}`)));
    if (flips.length > LISTED) lines.push(make("li", { class: "faint" }, `and ${count(flips.length - LISTED, "more image")}`));
    byId("whatif-list").replaceChildren(...lines);
  }

  possible() {
    return Boolean(this.detector?.threshold != null && groupsOf(this.detector).length);
  }

  whyNot() {
    if (!this.detector) return "";
    if (this.detector.n_calibration == null) {
      return "This detector was not calibrated with images, so there are no p-values to try other rates on.";
    }
    return "The server does not say among which calibration images each p-value was ranked, so other rates cannot be tried here.";
  }

  sentence(n, flips, unknown) {
    if (!this.rate) return this.ownPercent() ? "" : "Give a rate to try. The one that the threshold was set for is not recorded.";
    const { delta } = this.detector;
    const groups = groupsOf(this.detector);
    const ranks = groups.map((group) => rankOf(this.rate, group.n, delta));
    const most = Math.max(...groups.map((group) => group.n));
    if (ranks.every((rank) => rank === 0)) {
      const smallest = delta == null ? ` The smallest rate that can flag any is ${smallestPercent(most)}\u00a0%.` : "";
      const nothing = `At ${this.words()} nothing can be flagged: ${count(most, "calibration image")} ` +
        `${most === 1 ? "is" : "are"} too few for a promise this strict.${smallest}`;
      return n ? `${nothing} ${this.changed(n, flips)}` : nothing;
    }
    const silent = ranks.filter((rank) => rank === 0).length;
    const some = silent ? ` In ${count(silent, "group")} of ${groups.length} nothing can be flagged: too few calibration images.` : "";
    if (!n) return `Add images to see which verdicts would change.${some}`;
    const missing = unknown ? ` Of ${count(unknown, "image")} it cannot be said.` : "";
    return `${this.changed(n, flips)}${some}${missing}`;
  }

  changed(n, flips) {
    const all = n === 1 ? "the verdict" : `the ${n} verdicts`;
    if (!flips.length) return `At ${this.words()} ${n === 1 ? "the verdict stays" : `all ${n} verdicts stay`} as ${n === 1 ? "it is" : "they are"}.`;
    const flagged = flips.filter(({ change }) => change === "flag").length;
    const accepted = flips.length - flagged;
    const parts = [
      flagged ? `${count(flagged, "image")} would be flagged` : "",
      accepted ? `${count(accepted, "image")} would no longer be flagged` : "",
    ].filter(Boolean);
    return `At ${this.words()}, ${flips.length} of ${all} would change: ${parts.join(", ")}.`;
  }

  note() {
    const { delta, by, n_calibration: n } = this.detector;
    const certain = delta == null ? "" : ` As for the server\u2019s threshold, the promise holds with probability ${percent(1 - delta)}.`;
    const pools = by === "class"
      ? " With a threshold for each class, calibrating again at this rate may also pool classes differently; this uses the groups in force." : "";
    return `Only a trial: the server\u2019s threshold stays as it is. Computed from p-values among ${count(n ?? groupsOf(this.detector)[0].n, "calibration image")}.${certain}${pools}`;
  }
}
