// Which images a false-alarm rate flags: the arithmetic of negrefine.detectors.conformal.

/**
 * Return a percentage as it was written, as the fraction digits / 10 ** scale, or null unless it
 * lies strictly between 0 and 100. Decimal numbers are kept exactly: 29 % of 100 is 29.
 */
export function parsePercent(text) {
  const match = /^(\d*)(?:[.,](\d*))?$/.exec(text.replace(/[\s%]/g, ""));
  if (!match || !(match[1] || match[2]) || text.length > 40) return null;
  const decimals = match[2] ?? "";
  const digits = BigInt(match[1] + decimals);
  const scale = decimals.length + 2;
  return digits > 0n && digits < 10n ** BigInt(scale) ? { digits, scale } : null;
}

/** Return a fraction such as 0.05, as Python wrote it, as a percentage without rounding: "5". */
export function percentText(fraction) {
  const match = /^(\d)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(fraction));
  if (!match) return "";
  const decimals = match[2] ?? "";
  const point = 1 + Number(match[3] ?? 0) + 2;
  const digits = (match[1] + decimals).padEnd(Math.max(point, 0), "0");
  const padded = point < 1 ? "0".repeat(1 - point) + digits : digits;
  const at = Math.max(point, 1);
  const left = padded.slice(0, at).replace(/^0+(?=\d)/, "");
  const right = padded.slice(at).replace(/0+$/, "");
  return right ? `${left}.${right}` : left;
}

/**
 * Return the rank m: an image is flagged exactly if its p-value is <= m / (n + 1).
 *
 * m = floor(rate (n + 1)); with `delta`, the largest m with P(Binomial(n, rate) <= m - 1) <= delta.
 */
export function rankOf(rate, n, delta = null) {
  const fraction = 10n ** BigInt(rate.scale);
  if (delta == null) return Number((rate.digits * BigInt(n + 1)) / fraction);
  const p = Number(rate.digits) / Number(fraction);
  const odds = Math.log(p) - Math.log1p(-p);
  let term = n * Math.log1p(-p);
  let below = 0;
  for (let k = 0; k <= n; k += 1) {
    below += Math.exp(term);
    if (below > delta) return k;
    term += Math.log((n - k) / (k + 1)) + odds;
  }
  return n;
}

/** Return the smallest percentage that can flag anything with n images, rounded up: "1.62". */
export const smallestPercent = (n) => String(Math.ceil(10_000 / (n + 1)) / 100);

/** Return the groups of calibration images that have a threshold each: one without `by`. */
export function groupsOf(detector) {
  if (detector?.groups?.length) return detector.groups;
  const plain = detector?.n_calibration != null && detector.by !== "class";
  return plain ? [{ kind: "all", classes: [...detector.classes.keys()], n: detector.n_calibration }] : [];
}

/**
 * Return the group of calibration images that decides about an image of this nearest class:
 * { kind, classes, n }, or null if the server does not say.
 */
export function groupOf(detector, nearestClass) {
  const index = detector?.classes.indexOf(nearestClass) ?? -1;
  return groupsOf(detector).find((group) => group.classes.includes(index)) ?? null;
}

/**
 * Return what a rate changes: for each row "flag", "accept", "same", or "unknown" if the server
 * does not say what its p-value was ranked among.
 */
export function changeOf(row, detector, rate) {
  const group = groupOf(detector, row.nearest_class);
  if (!group || row.p_value == null || row.verdict == null) return "unknown";
  const flagged = Math.round(row.p_value * (group.n + 1)) <= rankOf(rate, group.n, detector.delta);
  if (flagged === (row.verdict === "OOD")) return "same";
  return flagged ? "flag" : "accept";
}
