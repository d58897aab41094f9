// The public HTTP API, and nothing else of the server.

/** An answer that is no success, with the words of its problem document. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `The server answered ${status}.`);
    Object.assign(this, { name: "Refusal", status, code: problem.code ?? "", title: problem.title ?? "" });
  }
}

/** No answer at all. */
export class Unreachable extends Error {
  name = "Unreachable";
}

/** The file is gone, or was never one. */
export class Unreadable extends Error {
  name = "Unreadable";
}

const KEY = "gpu-kmeans-key";

/** Send a key with every request from now on, until the tab is closed. */
export const useKey = (key) => sessionStorage.setItem(KEY, key);
export const hasKey = () => Boolean(sessionStorage.getItem(KEY));

const BUSY = new Set([429, 503]);
const MOST_TRIES = 6;
const LONGEST_WAIT_S = 30;

/**
 * Send bytes with parameters; wait and try again where the server says that it is busy.
 *
 * @param {string} path   "/compress", "/elbow" or "/palette"
 * @param {Blob} body     a picture
 * @param {object} params name -> value
 * @param {{signal?: AbortSignal, onWait?: (seconds: number) => void}} request
 * @returns {Promise<Response>}
 */
export async function post(path, body, params, { signal, onWait } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await send(path, body, params, signal);
    if (response.ok) return response;
    const problem = await response.json().catch(() => ({}));
    if (!BUSY.has(response.status) || attempt === MOST_TRIES) throw new Refusal(response.status, problem);
    const wait_s = Math.min(LONGEST_WAIT_S, Math.max(1, Number(response.headers.get("Retry-After")) || 1));
    onWait?.(wait_s);
    await pause(1000 * wait_s, signal);
  }
}

async function send(path, body, params, signal) {
  const query = queryOf(params);
  try {
    return await fetch(query ? `${path}?${query}` : path, {
      method: "POST",
      body,
      signal,
      headers: { "Content-Type": "application/octet-stream", ...(hasKey() && { "X-API-Key": sessionStorage.getItem(KEY) }) },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const isReadable = await body.slice(0, 1).arrayBuffer().then(() => true, () => false);
    throw isReadable ? new Unreachable(error.message) : new Unreadable(error.message);
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** A query that a person can read: commas stay commas. */
export const queryOf = (params) => new URLSearchParams(params).toString().replaceAll("%2C", ",");

/**
 * The picture in fewer colours.
 *
 * @param {Blob} file
 * @param {object} options  parameters of /compress
 * @param {{fixed: string[] | null, locked: string[]}} colors  the whole palette, or those that must be in it
 * @returns {Promise<{answer: object, params: object, blob: Blob}>}
 */
export async function compress(file, options, { fixed, locked }, request) {
  let params = options;
  if (fixed) params = { palette: listed(fixed), ...without(options, OF_THE_SEARCH) };
  else if (locked.length) params = { ...options, reserve: listed(locked) };
  const answer = await (await post("/compress", file, { ...params, curve: "false" }, request)).json();
  return { answer, params, blob: blobOf(answer.image) };
}

export const TARGETS = ["min_psnr", "min_quality", "max_bytes"];
const OF_THE_SEARCH = ["k", "k_max", ...TARGETS, "refine", "seed"];

const listed = (colors) => colors.map((color) => color.replace("#", "")).join(",");
const without = (object, names) => Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));

/** "#aabbcc" or, where there is alpha, "#aabbccdd". */
export const hexOf = ({ hex, alpha }) =>
  alpha === undefined || alpha === null ? hex : hex + alpha.toString(16).padStart(2, "0");

/** "#aabbcc" -> [170, 187, 204]. */
export const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function blobOf({ data, media_type: type }) {
  const raw = atob(data);
  const file = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) file[i] = raw.charCodeAt(i);
  return new Blob([file], { type });
}
