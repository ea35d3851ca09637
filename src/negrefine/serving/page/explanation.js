// What decided about one image: the nearest names with bars, the winning pair, and the card.

import * as api from "./api.js";
import { button, facts, make, named, notice } from "./dom.js";
import { fixed, scores, shortened, visible } from "./text.js";

/** Fill a place with the explanation of an item, asking the server. */
export async function showExplanation(place, item) {
  place.replaceChildren(make("p", { class: "faint" }, "Asking the server\u00a0\u2026"));
  place.setAttribute("aria-busy", "true");
  try {
    const found = await api.explain(item.file, item.detector);
    if (found.error) throw new api.Problem(found.error);
    place.replaceChildren(...explained(found, item));
  } catch (error) {
    const failed = make("div", { class: "notice", role: "alert" });
    notice(failed, visible(error.message), button("Try again", () => showExplanation(place, item)));
    place.replaceChildren(failed);
  } finally {
    place.removeAttribute("aria-busy");
  }
}

function explained(found, item) {
  const matches = [...found.classes, ...(found.negatives ?? [])];
  const pair = found.pair;
  const cosines = matches.map((match) => match.similarity);
  if (pair) cosines.push(pair.similarity, pair.negative_similarity);
  const longest = Math.max(...cosines, 1e-9);
  const sentences = (found.sentences ?? []).filter((sentence) => sentence !== found.headline);
  return [
    make("p", { class: "headline" }, visible(found.headline ?? "")),
    bars("Nearest class names", found.classes, longest, "class"),
    found.negatives?.length ? bars("Nearest negative labels", found.negatives, longest, "negative") : null,
    pair ? winningPair(pair, longest) : null,
    found.patch ? facts([["Patch that decided", patchWords(found.patch)]]) : null,
    make("ul", { class: "sentences" }, sentences.map((sentence) => make("li", {}, visible(sentence)))),
    facts(Object.entries(found.parts ?? {}).map(([part, value]) => [`${visible(part)} (part of the score)`, scores(value)[0]]), "facts parts"),
    cardPlace(item),
  ].filter(Boolean);
}

const patchWords = (patch) => [
  `row ${patch.row}, column ${patch.column}, counted from 0: `, named(patch.class_name), ` ${fixed(patch.similarity)}`,
];

function winningPair(pair, longest) {
  const rows = [
    { text: pair.text, similarity: pair.similarity },
    { text: `${pair.negative} alone`, similarity: pair.negative_similarity },
  ];
  return make("div", {},
    bars("Winning pair, and its negative label alone", rows, longest, "pair"),
    make("p", { class: "faint" }, `Such pairs add ${scores(pair.added)[0]} to the score.`));
}

/** Return a table of names, bars and cosines; all tables of one image have the same scale. */
function bars(title, matches, longest, kind) {
  const rows = matches.map((match) => {
    const bar = make("span", { class: `bar ${kind}` });
    bar.style.width = `${(100 * Math.max(0, match.similarity)) / longest}%`;
    const meaning = match.definition ? `${match.lexname}: ${match.definition}` : "";
    return make("tr", {},
      make("th", { scope: "row" }, named(match.text),
        meaning ? make("small", {}, visible(meaning)) : null),
      make("td", { class: "track", "aria-hidden": "true" }, make("span", { class: "rail" }, bar)),
      make("td", { class: "number" }, fixed(match.similarity)));
  });
  return make("table", { class: "bars" },
    make("caption", {}, title, make("span", {}, " (cosine)")), make("tbody", {}, rows));
}

function cardPlace(item) {
  const place = make("div", { class: "card-place" });
  const start = button("Show as one picture", () => showCard(place, item));
  place.append(start);
  return place;
}

async function showCard(place, item) {
  place.replaceChildren(make("p", { class: "faint", role: "status" }, "Drawing\u00a0\u2026"));
  try {
    const address = URL.createObjectURL(await api.card(item.file, item.detector));
    item.addresses.push(address);
    const words = `Picture of the explanation of ${visible(item.name)}: the same names, bars and verdict`;
    // Only letters and digits, so that every system can store it.
    const stem = item.name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
    const link = make("a", { class: "button", href: address, download: `${shortened(stem, 60) || "image"}-explained.png` },
      "Download PNG");
    place.replaceChildren(make("img", { class: "card", src: address, alt: words }), make("p", {}, link));
    link.focus();
  } catch (error) {
    const failed = make("div", { class: "notice", role: "alert" });
    notice(failed, visible(error.message), button("Try again", () => showCard(place, item)));
    place.replaceChildren(failed);
  }
}
