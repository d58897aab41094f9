// The pictures on the page and their requests: the one that is looked at first, two at a time, the old ones cancelled.
import { compress } from "./api.js";

const AT_ONCE = 2;

/** The user did not want to wait. */
class Stopped extends Error {
  name = "Stopped";
}

/**
 * What is known of one picture.
 *
 * state: "waiting", "working", "done" or "failed"; `result` is the last answer, kept until the next one is there.
 */
class Picture {
  state = "waiting";
  result = null; // {answer, params, blob, url, took_ms}
  fixed = null; // its palette, where it was changed by hand
  error = null;
  waits_s = 0; // the server is busy and is asked again after this
  curves = new Map(); // k_max -> answer of /elbow
  sizes = new Map(); // options as text -> Map of k -> {bytes, psnr_db}

  constructor(file) {
    this.file = file;
    this.name = file.name || "picture";
    this.url = URL.createObjectURL(file);
  }

  forget() {
    for (const url of [this.url, this.result?.url]) if (url) URL.revokeObjectURL(url);
  }
}

/** Fires "select" when another picture is looked at, and "update" whenever something is known of one. */
export class Pictures extends EventTarget {
  list = [];
  current = null;
  #queue = [];
  #request = new AbortController();

  /** Start over with these files. */
  replace(files) {
    this.#request.abort();
    for (const picture of this.list) picture.forget();
    this.list = files.map((file) => new Picture(file));
    this.select(this.list[0]);
  }

  /** Put more files after those that are there. */
  add(files) {
    this.list.push(...files.map((file) => new Picture(file)));
  }

  /** Let go of a picture, but not of the last one. */
  remove(picture) {
    const at = this.list.indexOf(picture);
    this.list.splice(at, 1);
    picture.forget();
    if (picture === this.current) this.select(this.list[Math.min(at, this.list.length - 1)]);
  }

  /** Cancel what is under way. */
  stop() {
    this.#request.abort();
    for (const picture of this.list.filter(({ state }) => state === "waiting" || state === "working")) {
      Object.assign(picture, { state: "failed", error: new Stopped(), waits_s: 0 });
      this.#fire("update", picture);
    }
  }

  select(picture) {
    this.current = picture;
    if (this.#queue.includes(picture)) this.#queue = [picture, ...this.#queue.filter((other) => other !== picture)];
    this.#fire("select", picture);
  }

  /** Compute the pictures that are due again, and those that are not done; what is under way is cancelled. */
  run(options, colorsOf, isDue = () => true) {
    this.#request.abort();
    this.#request = new AbortController();
    this.#queue = [this.current, ...this.list.filter((picture) => picture !== this.current)].filter((picture) => picture.state !== "done" || isDue(picture));
    for (const picture of this.#queue) picture.state = "waiting";
    for (let worker = 0; worker < AT_ONCE; worker += 1) this.#work(options, colorsOf, this.#request.signal);
  }

  async #work(options, colorsOf, signal) {
    while (this.#queue.length && !signal.aborted) {
      const picture = this.#queue.shift();
      picture.state = "working";
      picture.error = null;
      this.#fire("update", picture);
      await this.#compute(picture, options, colorsOf(picture), signal);
    }
  }

  async #compute(picture, options, colors, signal) {
    const begin = performance.now();
    const onWait = (seconds) => {
      picture.waits_s = seconds;
      this.#fire("update", picture);
    };
    try {
      const result = await compress(picture.file, options, colors, { signal, onWait });
      if (picture.result) URL.revokeObjectURL(picture.result.url);
      picture.result = { ...result, url: URL.createObjectURL(result.blob), took_ms: performance.now() - begin };
      picture.state = "done";
    } catch (error) {
      if (signal.aborted) return;
      picture.error = error;
      picture.state = "failed";
    }
    picture.waits_s = 0;
    this.#fire("update", picture);
  }

  #fire(name, picture) {
    this.dispatchEvent(new CustomEvent(name, { detail: picture }));
  }
}
