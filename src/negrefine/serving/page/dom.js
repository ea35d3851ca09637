// Elements. Text from others only ever becomes text nodes.

import { visible } from "./text.js";

/** Return the element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/**
 * Return a new element. Properties that begin with "on" are listeners, all others attributes;
 * false, null and undefined leave one out. Children are elements or strings.
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== ""));
  return element;
}

/** Return a name chosen by others, isolated from the direction of the text around it. */
export const named = (text) => make("bdi", { dir: "auto" }, visible(text));

/** Return a button of the page. */
export const button = (text, onclick, className = "") =>
  make("button", { type: "button", class: className || null, onclick }, text);

/** Return a list of terms and what they are, from pairs; those without a value are left out. */
export function facts(pairs, className = "facts") {
  const known = pairs.filter(([, value]) => value != null && value !== "");
  return make("dl", { class: className },
    known.map(([term, value]) => make("div", {}, make("dt", {}, term), make("dd", {}, value))));
}

/** Show a sentence and buttons in a place for notices, or hide it without a sentence. */
export function notice(place, text = "", ...actions) {
  place.hidden = !text;
  const buttons = actions.length ? make("p", { class: "actions" }, actions) : null;
  place.replaceChildren(...(text ? [make("p", {}, text), buttons].filter(Boolean) : []));
}

/** Set text only where it differs, so that screen readers do not read it again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
