// The page: what it keeps, and which part is told when something changes.

import * as api from "./api.js";
import { showDetector, summaryOf } from "./detector.js";
import { button, byId, make, notice, say } from "./dom.js";
import { givenFiles } from "./given.js";
import { Results, stateOf, statusOf } from "./results.js";
import { bytes, count, visible, whole } from "./text.js";
import { thumbnail } from "./thumbnails.js";
import { askForToken } from "./token.js";
import { Uploads } from "./uploads.js";
import { WhatIf } from "./whatif.js";

const KEPT = 200;

const state = { items: [], detectors: [], detector: null, wanted: null, made: 0, left: 0 };
const results = new Results({ remove: (item) => remove([item]), retry: (item) => send([item]) });
const whatif = new WhatIf(() => refresh());
const uploads = new Uploads({
  start: (items) => items.forEach((item) => update(item, { sent: true })),
  row: (item, row, { detector, version }) => {
    update(item, { row, error: null, detector, version });
    noticeVersion(detector, version);
  },
  error: (item, error) => update(item, { error, row: null }),
  busy: (sentence, seconds, retry) => notice(byId("upload-notice"),
    sentence && `${visible(sentence)} Trying again in ${count(seconds, "second")}.`,
    ...(retry ? [button("Try now", retry)] : [])),
  lost: (sentence) => {
    uploads.queue.forEach(({ item }) => update(item, { sent: false }));
    notice(byId("upload-notice"), `${visible(sentence)} ${count(uploads.queue.length, "image waits", "images wait")}.`,
      button("Try again", () => resume()));
  },
  change: () => showProgress(),
});

/** Give items changes, and draw them. */
function update(item, changes) {
  if (item.gone) return;
  Object.assign(item, changes);
  results.draw(item, state.detector);
  refresh();
}

/** Draw what depends on all items together. */
function refresh() {
  whatif.show(state.items);
  results.mark(state.items, whatif);
  byId("results").hidden = state.items.length === 0;
  const busy = uploads.running || uploads.paused;
  // Not for every group of a long list: a screen reader would read them all.
  if (busy && uploads.total > 2) say(byId("status"), `Scoring ${count(uploads.total, "image")}.`);
  else say(byId("status"), state.items.length ? statusOf(state.items) : "");
  const kept = byId("kept");
  kept.hidden = state.left === 0;
  say(kept, `This page keeps the last ${KEPT} images: ${count(state.left, "earlier one")} left the list.`);
  offerRescore(busy);
}

/** Ask again what the detector is if it was saved anew while this page was open. */
function noticeVersion(name, version) {
  const known = state.detector;
  if (name !== known.name || version === known.version || state.wanted !== name || state.asking) return;
  state.asking = loadDetector(name).catch((error) =>
    notice(byId("server-notice"), visible(error.message), button("Try again", () => loadDetectors())),
  ).finally(() => (state.asking = null));
}

/** Offer to score images again that another detector, or version of it, scored. */
function offerRescore(busy) {
  const others = state.items.filter((item) => item.row && !whatif.scores(item));
  const place = byId("rescore");
  if (!others.length || !state.detector || busy) return notice(place);
  const name = visible(state.detector.name);
  if (place.dataset.for === `${others.length} ${name}` && !place.hidden) return undefined;
  place.dataset.for = `${others.length} ${name}`;
  const were = others.length === 1 ? "was" : "were";
  return notice(place, `${count(others.length, "image")} ${were} scored by another detector, or by an earlier version of it.`,
    button(`Score with \u201c${name}\u201d`, () => send(others)));
}

function showProgress() {
  const { done, total, running, paused } = uploads;
  byId("progress").hidden = !running && !paused;
  byId("progress-bar").max = Math.max(total, 1);
  byId("progress-bar").value = done;
  say(byId("progress-text"), `Scored ${done} of ${count(total, "image")}`);
  if (!running && !paused) notice(byId("upload-notice"), state.said ?? "");
  refresh();
}

async function resume() {
  notice(byId("upload-notice"));
  if (!state.detector) await loadDetectors();
  uploads.resume();
}

/** Score items with the chosen detector. */
function send(items) {
  for (const item of items) {
    item.why = null;
    update(item, { row: null, error: null, sent: false, detector: state.detector.name });
  }
  uploads.add(items, state.detector.name);
}

/** Take files into the list, newest above, and send them. */
function take(files) {
  if (!files.length) return;
  if (!state.detector) {
    notice(byId("upload-notice"), "The server has not said yet what its detector is: add the images again then.");
    return;
  }
  const taken = files.slice(0, KEPT);
  state.said = files.length > KEPT
    ? `${count(files.length, "image")} were given: this page takes the first ${KEPT} of them. ` +
      "The command \u201cnegrefine score\u201d takes any number." : "";
  notice(byId("upload-notice"), state.said);
  const items = taken.map((file) => newItem(file));
  results.add(items);
  state.items.unshift(...items);
  const old = state.items.slice(KEPT);
  remove(old);
  state.left += old.length;
  const limit = state.detector.limits?.bytes;
  const large = items.filter((item) => limit != null && item.file.size + 4096 > limit);
  for (const item of items) preview(item);
  for (const item of large) {
    update(item, { tooLarge: true, error: `Not sent: this file has ${whole(item.file.size)} bytes, and the server takes at most ${whole(limit)} in a request.` });
  }
  send(items.filter((item) => !large.includes(item)));
}

function newItem(file) {
  state.made += 1;
  return { id: `image-${state.made}`, file, name: file.name || `image ${state.made}`, addresses: [], row: null, error: null };
}

async function preview(item) {
  const address = await thumbnail(item.file);
  if (item.gone) return address && URL.revokeObjectURL(address);
  if (address) item.addresses.push(address);
  item.thumbnail = address;
  return update(item, {});
}

function remove(items) {
  for (const item of items) {
    const focused = item.node.contains(document.activeElement);
    const next = item.node.nextElementSibling ?? item.node.previousElementSibling;
    item.gone = true;
    uploads.drop(item);
    item.addresses.forEach((address) => URL.revokeObjectURL(address));
    item.node.remove();
    state.items = state.items.filter((other) => other !== item);
    if (focused) (next ?? byId("files")).focus();
  }
  refresh();
}

async function loadDetectors() {
  const place = byId("server-notice");
  try {
    const known = await api.listDetectors();
    state.detectors = known.detectors;
    const asked = new URLSearchParams(location.search).get("detector");
    const name = known.detectors.includes(asked) ? asked : known.default;
    const choose = byId("choose-detector");
    choose.replaceChildren(...known.detectors.map((other) =>
      make("option", { value: other, selected: other === name }, visible(other))));
    byId("choice").hidden = known.detectors.length < 2;
    await loadDetector(name);
    const missing = asked !== null && asked !== name;
    notice(place, missing ? `There is no detector \u201c${visible(asked)}\u201d here: this is \u201c${visible(name)}\u201d.` : "");
  } catch (error) {
    notice(place, visible(error.message), button("Try again", () => loadDetectors()));
    if (!state.detector) say(byId("summary"), "No detector yet.");
  }
}

async function loadDetector(name) {
  state.wanted = name;
  const detector = await api.describeDetector(name);
  // The answer to an earlier choice may come after that to a later one.
  if (state.wanted !== name) return;
  state.detector = detector;
  uploads.limits = detector.limits ?? {};
  byId("side").hidden = false;
  say(byId("summary"), visible(summaryOf(detector)));
  const toy = byId("toy");
  toy.hidden = !detector.builtin;
  say(toy, detector.builtin
    ? "Toy encoder: this detector uses the small one that comes with negrefine. It knows emoji and icons; its verdicts on photographs mean nothing." : "");
  showDetector(byId("detector"), detector);
  const limit = detector.limits?.bytes;
  say(byId("limits"), `Images go to this server and nowhere else. ${limit ? `Each may have up to ${bytes(limit)}. ` : ""}This page keeps the last ${KEPT}, until you close it.`);
  whatif.setDetector(detector);
  for (const item of state.items) results.draw(item, detector);
  refresh();
}

byId("choose-detector").addEventListener("change", async ({ target }) => {
  const address = new URL(location.href);
  address.searchParams.set("detector", target.value);
  history.replaceState(null, "", address);
  try {
    await loadDetector(target.value);
    notice(byId("server-notice"));
  } catch (error) {
    notice(byId("server-notice"), visible(error.message), button("Try again", () => loadDetectors()));
  }
});
byId("stop").addEventListener("click", () => {
  uploads.stop();
  byId("files").focus();
});
byId("clear").addEventListener("click", () => {
  remove(state.items);
  state.left = 0;
  refresh();
  byId("files").focus();
});
byId("filter").addEventListener("change", () => refresh());
byId("whatif-list").addEventListener("click", ({ target }) => {
  // What the filter hides cannot be jumped to.
  if (target.closest("a")) byId("filter").querySelector("[value=all]").click();
});
byId("work").hidden = false;
say(byId("summary"), "Asking the server about its detector\u00a0\u2026");
api.onToken(askForToken);
givenFiles(take, (sentence) => notice(byId("upload-notice"), sentence));
loadDetectors();
