// The list of images and their verdicts.

import { button, byId, facts, make, named, say } from "./dom.js";
import { showExplanation } from "./explanation.js";
import { groupOf } from "./rates.js";
import { count, fixed, meaningOf, precise, scores, shortened, verdictWords, visible } from "./text.js";

const SIGNS = { id: "\u2713", ood: "\u2715", open: "\u2013", error: "!", wait: "\u2026" };

/** Return the state of an item: "wait", "error", "id", "ood" or "open" (no verdict). */
export function stateOf(item) {
  if (item.error) return "error";
  if (!item.row) return "wait";
  return { ID: "id", OOD: "ood" }[item.row.verdict] ?? "open";
}

/** Return what a screen reader says of the small picture of an item. */
const altOf = (item) => `${visible(item.name)}: ${headlineOf(item)}`;

function headlineOf(item) {
  const state = stateOf(item);
  if (state === "error") return "not scored";
  if (state === "wait") return item.sent ? "being scored" : "waiting";
  return verdictWords(item.row);
}

/** Return a sentence about all items, for the top of the list. */
export function statusOf(items) {
  const n = (state) => items.filter((item) => stateOf(item) === state).length;
  const scored = items.length - n("wait") - n("error");
  if (items.length === 1 && scored) return `${altOf(items[0])}.`;
  const parts = [
    n("ood") ? `${n("ood")} in none of your classes` : "",
    n("id") ? `${n("id")} in a class` : "",
    n("open") ? `${n("open")} without a verdict` : "",
    n("error") ? `${n("error")} not scored` : "",
    n("wait") ? `${n("wait")} waiting` : "",
  ].filter(Boolean);
  return `${count(items.length, "image")}: ${parts.join(", ")}.`;
}

/** The list; `actions.remove(item)` and `actions.retry(item)` are what its buttons do. */
export class Results {
  constructor(actions) {
    this.actions = actions;
    this.list = byId("list");
  }

  /** Put new items above the others. */
  add(items) {
    for (const item of items) item.node = make("li", { class: "result", id: item.id, tabindex: "-1" });
    this.list.prepend(...items.map((item) => item.node));
  }

  /** Draw an item anew; its explanation stays open where it was. */
  draw(item, detector) {
    const state = stateOf(item);
    const scorer = detector?.name === item.detector && detector.version === item.version ? detector : null;
    const flip = make("p", { class: "flip", hidden: true });
    item.flip = item.row ? flip : null;
    item.node.dataset.state = state;
    item.node.replaceChildren(
      picture(item),
      make("div", { class: "head" },
        make("h3", { class: "verdict" }, make("span", { class: "sign", "aria-hidden": "true" }, SIGNS[state]),
          make("span", { class: "words" }, state === "id" ? named(item.row.nearest_class) : headlineOf(item))),
        make("p", { class: "file" }, named(item.name),
          item.row && !scorer ? [" \u00b7 scored by ", named(item.detector), detector?.name === item.detector ? ", an earlier version" : ""] : null),
        item.row ? flip : null),
      make("div", { class: "rest" },
        item.error ? make("p", { class: "wrong-text" }, visible(item.error)) : null,
        item.row ? this.scored(item, scorer) : null,
        this.buttons(item, state)),
      item.why ?? "");
  }

  scored(item, scorer) {
    const row = item.row;
    const [score, threshold] = scores(row.score, row.threshold);
    const rival = row.nearest_negative == null ? null
      : [named(row.nearest_negative), ` ${fixed(row.negative_similarity)}`];
    return [
      facts([
        ["Nearest class (cosine)", [named(row.nearest_class), ` ${fixed(row.similarity)}`]],
        ["Nearest negative label", rival],
        ["Score", score],
        ["Threshold", threshold],
        ["p-value", row.p_value == null ? null : precise(row.p_value)],
      ]),
      make("p", { class: "meaning" }, meaningOf(row, groupOf(scorer, row.nearest_class))),
    ];
  }

  buttons(item, state) {
    const name = shortened(visible(item.name));
    const remove = button("Remove", () => this.actions.remove(item), "quiet");
    remove.setAttribute("aria-label", `Remove ${name}`);
    if (state === "error") {
      const retry = button("Try again", () => this.actions.retry(item));
      retry.setAttribute("aria-label", `Try again: ${name}`);
      return make("p", { class: "actions" }, item.tooLarge ? null : retry, remove);
    }
    if (state === "wait") return make("p", { class: "actions" }, remove);
    const open = Boolean(item.why);
    const why = button("What decided", () => this.toggle(item), "why-button");
    why.setAttribute("aria-expanded", String(open));
    why.setAttribute("aria-controls", `${item.id}-why`);
    why.setAttribute("aria-label", `What decided about ${name}`);
    item.whyButton = why;
    return make("p", { class: "actions" }, why, remove);
  }

  /** Open or close what decided about an item. */
  toggle(item) {
    if (item.why) {
      item.why.remove();
      item.why = null;
    } else {
      item.why = make("div", { class: "why", id: `${item.id}-why`, role: "region",
        "aria-label": `What decided about ${shortened(visible(item.name))}` });
      item.node.append(item.why);
      showExplanation(item.why, item);
    }
    item.whyButton.setAttribute("aria-expanded", String(Boolean(item.why)));
  }

  /** Mark the items that another rate would change, and show those that the filter asks for. */
  mark(items, whatif) {
    const shown = document.querySelector("#filter input:checked").value;
    byId("filter").hidden = items.length < 2;
    const counts = { all: items.length, ood: 0, id: 0, open: 0, flip: 0 };
    for (const item of items) {
      const change = whatif.changeOf(item);
      const flips = change === "flag" || change === "accept";
      const state = { error: "open", wait: "open" }[stateOf(item)] ?? stateOf(item);
      counts[state] += 1;
      counts.flip += flips ? 1 : 0;
      item.node.hidden = !["all", state, flips ? "flip" : ""].includes(shown);
      item.node.classList.toggle("turns", flips);
      if (!item.flip) continue;
      item.flip.hidden = !flips;
      say(item.flip, flips ? `At ${whatif.words()}: ${change === "flag" ? "would be flagged" : "would no longer be flagged"}` : "");
    }
    for (const [key, n] of Object.entries(counts)) {
      say(document.querySelector(`[data-count=${key}]`), String(n));
    }
  }
}

function picture(item) {
  if (item.thumbnail) {
    return make("img", { class: "thumb", src: item.thumbnail, alt: altOf(item), width: 112, height: 112 });
  }
  const words = item.thumbnail === null ? "no preview" : "";
  return make("div", { class: "thumb none", role: "img", "aria-label": altOf(item) }, words);
}
