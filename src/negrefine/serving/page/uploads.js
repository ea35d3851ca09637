// Images on their way to the server: small groups, so that progress shows, one after the other.

import { Problem, reachable, score } from "./api.js";

const GROUP = 4;
const MOST_RETRIES = 6;
const LONGEST_WAIT = 60;

/**
 * Sends items { file, ... } to the server and gives each a row or an error.
 *
 * `on.start(items)`, `on.row(item, row, answer)`, `on.error(item, sentence)`,
 * `on.busy(sentence, seconds, retry)` while a full server is waited for, `on.lost(sentence)` when
 * the server is gone and the rest waits for `resume`, `on.change()` after every step.
 */
export class Uploads {
  constructor(on) {
    this.on = on;
    this.queue = [];
    this.limits = {};
    this.done = 0;
    this.total = 0;
    this.running = false;
    this.paused = false;
  }

  /** Put items at the end of the queue, and begin. */
  add(items, detector) {
    this.queue.push(...items.map((item) => ({ item, detector })));
    this.total += items.length;
    this.paused = false;
    if (!this.running) this.run();
  }

  /** Take one item out of the queue, such as one that was removed. */
  drop(item) {
    const before = this.queue.length;
    this.queue = this.queue.filter((entry) => entry.item !== item);
    this.total -= before - this.queue.length;
    this.on.change();
  }

  /** Give up what was not answered yet. */
  stop() {
    const left = this.queue.splice(0).map((entry) => entry.item);
    this.stopped = true;
    this.abort?.abort();
    this.wake?.();
    this.paused = false;
    for (const item of left) this.on.error(item, "Not sent: you stopped it.");
    this.done += left.length;
    this.finish();
  }

  /** Go on with the queue, after a pause too. */
  resume() {
    this.paused = false;
    this.wake?.();
    if (!this.running) this.run();
  }

  async run() {
    this.running = true;
    this.stopped = false;
    while (this.queue.length && !this.paused) {
      this.on.change();
      await this.sendGroup(this.nextGroup());
    }
    this.running = false;
    this.finish();
  }

  finish() {
    if (!this.queue.length && !this.running) this.done = this.total = 0;
    this.on.change();
  }

  nextGroup() {
    const [first] = this.queue;
    const most = Math.min(GROUP, this.limits.images ?? GROUP);
    // Room for the lines between the parts of a form.
    const room = (this.limits.bytes ?? Infinity) - 4096;
    let size = 0;
    let n = 0;
    for (const { item, detector } of this.queue.slice(0, most)) {
      size += item.file.size + 1024;
      if (detector !== first.detector || (n && size > room)) break;
      n += 1;
    }
    return this.queue.splice(0, n);
  }

  async sendGroup(group, retries = 0) {
    const items = group.map((entry) => entry.item);
    this.on.start(items);
    this.abort = new AbortController();
    try {
      const files = items.map((item) => item.file);
      const answer = await score(files, group[0].detector, this.abort.signal);
      items.forEach((item, i) => {
        const row = answer.results[i];
        if (row.error) this.on.error(item, row.error);
        else this.on.row(item, row, answer);
      });
      this.done += items.length;
    } catch (error) {
      await this.afterError(error, group, retries);
    }
  }

  async afterError(error, group, retries) {
    const fail = (sentence) => {
      group.forEach(({ item }, i) => this.on.error(item, error.errors?.[i]?.error ?? sentence));
      this.done += group.length;
    };
    if (this.stopped || error.name === "AbortError") return fail("Not scored: you stopped it.");
    if (!(error instanceof Problem)) throw error;
    if (error.status === 503) {
      if (retries >= MOST_RETRIES) return this.pause(group, `${error.message} It was still so after ${retries} tries.`);
      const wait = Math.min(error.retryAfter ?? 2 ** retries, LONGEST_WAIT);
      await this.waitFor(wait, `${error.message} Try ${retries + 1} of ${MOST_RETRIES}.`);
      if (this.stopped) return fail("Not scored: you stopped it while the server was busy.");
      return this.sendGroup(group, retries + 1);
    }
    if (error.status === 0 && !(await reachable())) return this.pause(group, error.message);
    // One image too large, or changed since it was chosen, costs the others nothing.
    if (group.length > 1 && (error.status === 0 || error.status === 413)) {
      for (const entry of group) {
        if (this.paused) this.queue.push(entry);
        else await this.sendGroup([entry]);
      }
      return undefined;
    }
    return fail(error.status === 0
      ? "The browser could not send this file: it may have changed or gone since it was chosen, or be too large."
      : error.message);
  }

  pause(group, sentence) {
    this.queue.unshift(...group);
    this.paused = true;
    this.on.lost(sentence);
  }

  async waitFor(seconds, sentence) {
    await new Promise((wake) => {
      this.wake = wake;
      const timer = setTimeout(wake, 1000 * seconds);
      this.on.busy(sentence, seconds, () => {
        clearTimeout(timer);
        wake();
      });
    });
    this.wake = null;
    this.on.busy("", 0, null);
  }
}
