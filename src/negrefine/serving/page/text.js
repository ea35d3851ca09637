// Text of others made safe to show, numbers, and the sentences of the page.

// The same characters as in negrefine.shown_text, which says why.
const CONTROLS =
  "\\0-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069" +
  "\\xad\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b\\u2060-\\u2065\\u206a-\\u206f" +
  "\\u3164\\ufeff\\uffa0\\ufff0-\\ufffb\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}\\ufffe\\uffff";
const LONE = "\\ud800-\\udfff";
const JOIN = "\\u200c\\u200d";
const SELECT = "\\ufe00-\\ufe0f";
const NO_LETTER = CONTROLS + LONE + JOIN + SELECT;
const LETTER = "\\u0590-\\u{10ffff}";
const AFTER_LETTER = `(?<=[${LETTER}])(?<![${NO_LETTER}])`;
const AFTER_EMOJI = `(?<=[${LETTER}][${SELECT}])(?<![${NO_LETTER}][${SELECT}])`;
const BEFORE_LETTER = `(?=[${LETTER}])(?![${NO_LETTER}])`;
const HIDDEN = new RegExp(
  `[${CONTROLS}${LONE}]` +
    `|(?!(?:${AFTER_LETTER}|${AFTER_EMOJI})[${JOIN}]${BEFORE_LETTER})[${JOIN}]` +
    `|(?!(?:${AFTER_LETTER}|(?<=[#*0-9\\xa9\\xae]))[${SELECT}])[${SELECT}]`,
  "gu",
);

/** Return text on one line in which nothing is obeyed and nothing is invisible. */
export const visible = (text) => String(text).replace(HIDDEN, escaped);

function escaped(character) {
  const code = character.codePointAt(0);
  const hex = (width) => code.toString(16).padStart(width, "0");
  if (code < 0x100) return `\\x${hex(2)}`;
  return code < 0x10000 ? `\\u${hex(4)}` : `\\U${hex(8)}`;
}

const WHOLE = new Intl.NumberFormat("en");

/** Return a whole number with separators. */
export const whole = (value) => WHOLE.format(value);

/** Return "1 image" or "12 images". */
export const count = (n, one, many = `${one}s`) => `${whole(n)} ${n === 1 ? one : many}`;

/** Return a cosine. */
export const fixed = (value) => (value == null ? "" : value.toFixed(3));

/** Return a score and its threshold with four digits, or as many more as tell them apart. */
export function scores(score, threshold = null) {
  const shown = (value, digits) => (value == null ? null : value.toPrecision(digits));
  let digits = 4;
  const alike = () => shown(score, digits) === shown(threshold, digits);
  while (digits < 17 && score !== threshold && alike()) digits += 1;
  return [shown(score, digits), shown(threshold, digits)];
}

/** Return a p-value with three significant digits. */
export const precise = (value) => String(Number(value.toPrecision(3)));

/** Return a fraction as a percentage with at most three significant digits. */
export const percent = (fraction) => `${Number((100 * fraction).toPrecision(3))}\u00a0%`;

/** Return a number of bytes in words. */
export function bytes(n) {
  if (n < 1024) return count(n, "byte");
  return n < 1024 ** 2 ? `${(n / 1024).toFixed(0)} KiB` : `${Number((n / 1024 ** 2).toFixed(1))} MiB`;
}

/** Return a text cut for a place where a long one would hide the rest. */
export const shortened = (text, length = 80) =>
  [...text].length <= length ? text : `${[...text].slice(0, length - 1).join("")}\u2026`;

/** Return the verdict of a row in words, without its symbol. */
export function verdictWords(row) {
  if (row.verdict === "ID") return visible(row.nearest_class);
  if (row.verdict === "OOD") return "none of your classes";
  return "no verdict: the detector has no threshold";
}

/**
 * Return what a p-value means. `group` is what its score was ranked among, null if unknown.
 */
export function meaningOf(row, group) {
  if (row.p_value == null) return "No p-value: the detector is not calibrated.";
  const [which, nearest] = {
    class: ["nearest to this class ", " and are nearest to this one"],
    pooled: ["of the pooled classes ", " and are nearest to a pooled one"],
  }[group?.kind] ?? ["", ""];
  const often =
    `Images that do belong to your classes${nearest} get a p-value this small at most ` +
    `${percent(row.p_value)} of the time.`;
  if (!group) return often;
  const below = Math.round(row.p_value * (group.n + 1)) - 1;
  const scored = below === 0 ? "None" : whole(below);
  return (
    `${scored} of the ${count(group.n, "calibration image")} ${which}scored as low as this one` +
    `${below === 0 ? "" : " or lower"}. ${often}`
  );
}
