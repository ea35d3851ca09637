// Requests to the server, and its problems as errors with a sentence.

/** A request that gave no result; `message` is a sentence that says why and what to do. */
export class Problem extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, retryAfter?: number|null, errors?: object[]}} details `status` is 0
   *   if no answer came.
   */
  constructor(message, { status = 0, retryAfter = null, errors = [] } = {}) {
    super(message);
    Object.assign(this, { status, retryAfter, errors });
  }
}

let token = null;
let asking = null;
let ask = async () => null;

/** Set the function that asks the person for a token: ask(refused) resolves to it, or to null. */
export function onToken(asker) {
  ask = asker;
}

/** Return what the server knows of its detectors: { default, detectors }. */
export const listDetectors = () => json("v1/detectors");

/** Return what one detector is. */
export const describeDetector = (name) => json(`v1/detector?${new URLSearchParams({ detector: name })}`);

/** Return the rows of files, in their order. */
export async function score(files, detector, signal) {
  const answer = await json(address("score", { detector }), { method: "POST", body: form(files), signal });
  if (!Array.isArray(answer.results) || answer.results.length !== files.length) {
    throw new Problem("The server's answer has not one result for each image.", { status: 200 });
  }
  return answer;
}

/** Return the explanation of one file. */
export async function explain(file, detector) {
  const answer = await json(address("explain", { detector, top: 5 }), { method: "POST", body: form([file]) });
  return answer.results[0];
}

/** Return the explanation of one file as a picture, a PNG. */
export async function card(file, detector) {
  const options = { method: "POST", body: form([file]), accept: "image/png" };
  return (await request(address("explain", { detector, top: 5 }), options)).blob();
}

/** Return whether the server answers at all. */
export async function reachable() {
  try {
    return (await fetch("healthz", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

const address = (what, parameters) => `v1/${what}?${new URLSearchParams(parameters)}`;

function form(files) {
  const body = new FormData();
  for (const file of files) body.append("images", file, file.name || "image");
  return body;
}

async function json(path, options) {
  const response = await request(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server's answer is no JSON: something between may have cut it off.");
  }
}

async function request(path, options = {}) {
  const sent = token;
  const headers = { Accept: options.accept ?? "application/json" };
  if (sent) headers.Authorization = `Bearer ${sent}`;
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached: it may have been stopped, or the network is down.");
  }
  if (response.ok) return response;
  if (response.status === 401 && (await renewToken(sent))) return request(path, options);
  throw await problemOf(response);
}

/** Ask for a token, once for all requests that wait for it; return whether there is another. */
async function renewToken(sent) {
  if (token === sent) {
    asking ??= ask(sent !== null).finally(() => (asking = null));
    token = (await asking) ?? token;
  }
  return token !== sent;
}

async function problemOf(response) {
  const content = await response.json().catch(() => ({}));
  const said = content.detail || content.title;
  const waits = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return new Problem(said || `The server answered ${response.status} and no reason.`, {
    status: response.status,
    retryAfter: Number.isNaN(waits) ? null : waits,
    errors: Array.isArray(content.errors) ? content.errors : [],
  });
}
