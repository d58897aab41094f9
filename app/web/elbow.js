// How many colours? The curve, what speaks for which k, and what each k weighs.
import { compress, post } from "./api.js";
import { Plot } from "./plot.js";
import { bytes, change, decibels, scientific } from "./words.js";

const $ = (id) => document.getElementById(id);
// name in the API -> what it is called here, and in a few words; the API's own meaning is the tooltip.
const RULES = {
  knee: ["Knee of the curve", "where it bends most; it moves with the range of k"],
  calinski_harabasz: ["Calinski-Harabasz", "spread between the colours over spread within"],
  silhouette: ["Simplified silhouette", "how much farther the next colour is than the own"],
  target_error: ["Error a tenth of the first", "where a tenth of what one colour leaves is left"],
};
const INVITATION = "Not measured yet. Measuring makes the file of each k,";
const PRESETS = [4, 8, 16, 32, 64, 128, 256];

/** The panel of the elbow curve; fires "take" with a k, "k_max" with the end of the curve, "error" with an error. */
export class Elbow extends EventTarget {
  #plot = new Plot($("plot"));
  #picture = null;
  #minPsnr = 32;
  #key = ""; // the options but k, as text
  #options = {};
  #request = new AbortController();
  #measuring = null; // what cancels it

  constructor() {
    super();
    this.#plot.addEventListener("take", (event) => this.#fire("take", event.detail));
    this.#plot.addEventListener("point", (event) => this.#read(event.detail));
    for (const radio of document.querySelectorAll('input[name="axis"]')) radio.addEventListener("change", () => this.#draw());
    $("plot-k-max").addEventListener("change", () => this.#fire("k_max", $("plot-k-max").value));
    $("plot").addEventListener("focusin", () => $("plot-readout").scrollIntoView({ block: "nearest" }));
    $("measure").addEventListener("click", () => this.#measure());
    $("sizes").addEventListener("click", (event) => this.#takeFrom(event.target.closest("button")));
    $("criteria").addEventListener("click", (event) => this.#takeFrom(event.target.closest("button")));
  }

  /** Show what is known of a picture, and ask for its curve where that is not known yet. */
  async show(picture, { kMax, minPsnr, options }) {
    this.#picture = picture;
    this.#minPsnr = minPsnr;
    this.#remember(picture, options);
    this.#offer(kMax);
    this.#drawSizes();
    this.#request.abort();
    this.#request = new AbortController();
    const { signal } = this.#request;
    if (!picture.curves.has(kMax)) {
      $("plot-readout").textContent = "Computing the curve …";
      try {
        picture.curves.set(kMax, await (await post("/elbow", picture.file, { k_max: kMax }, { signal })).json());
      } catch (error) {
        if (signal.aborted) return;
        $("plot-readout").textContent = "";
        this.#fire("error", error);
        return;
      }
    }
    if (!signal.aborted) this.#draw();
  }

  /** Nothing to show, as for a file that is no picture. */
  clear() {
    this.#request.abort();
    this.#stopMeasuring();
    this.#picture = null;
    this.#plot.show(null);
    $("criteria").replaceChildren();
    $("plot-readout").textContent = "";
    this.#drawSizes();
  }

  get #answer() {
    return this.#picture?.curves.get(Number($("plot-k-max").value));
  }

  #draw() {
    if (!this.#answer) return;
    const axis = document.querySelector('input[name="axis"]:checked').value;
    const k = this.#picture.result?.answer.k ?? null;
    this.#plot.show({ curve: this.#answer.curve, knee: this.#answer.knee, k, axis });
    this.#read(null);
    this.#judge();
  }

  /** The line under the plot: the point looked at, or else where we are. */
  #read(k) {
    const at = k ?? this.#picture.result?.answer.k;
    const point = this.#answer?.curve.find((other) => other.k === at);
    const size = this.#sizes.get(at);
    const parts = [`k = ${at}`];
    if (point) parts.push(`WCSS ${scientific(point.wcss)}`, `${decibels(point.psnr_db)} at best`);
    if (size) parts.push(`file ${decibels(size.psnr_db)}, ${bytes(size.bytes)}`);
    $("plot-readout").textContent = parts.join(" · ");
  }

  /** Criteria beside each other, each with the k it speaks for. */
  #judge() {
    const { curve, criteria } = this.#answer;
    const good = curve.find(({ psnr_db: psnr }) => psnr === null || psnr >= this.#minPsnr);
    $("criteria").replaceChildren(
      ...Object.entries(criteria).map(([name, { k, meaning }]) => criterion(RULES[name] ?? [name.replaceAll("_", " "), meaning], k, "none", meaning)),
      criterion([`Fewest with ${this.#minPsnr} dB`, "the smallest k that reaches min_psnr undithered, as k = auto makes it"], good?.k, `more than ${curve.at(-1).k}`, "k=auto asks for it"),
    );
  }

  get #sizes() {
    return this.#picture?.sizes.get(this.#key) ?? new Map();
  }

  /** Sizes can be compared where all but k is equal. */
  #remember(picture, options) {
    const { k, k_max, min_psnr, min_quality, max_bytes, ...rest } = options;
    const key = new URLSearchParams(rest).toString();
    if (key !== this.#key) this.#stopMeasuring();
    this.#options = rest;
    this.#key = key;
    if (!picture.sizes.has(this.#key)) picture.sizes.set(this.#key, new Map());
    const { palette, reserve } = picture.result.params;
    if (picture.state === "done" && !palette && !reserve) this.#note(picture, this.#key, picture.result.answer);
  }

  #note(picture, key, { k, image, psnr_db }) {
    picture.sizes.get(key).set(k, { bytes: image.bytes, psnr_db });
  }

  #canMeasure() {
    return !this.#measuring && Boolean(this.#picture?.result) && !PRESETS.every((k) => this.#sizes.has(k));
  }

  async #measure() {
    if (!this.#canMeasure()) return;
    const [picture, key, options] = [this.#picture, this.#key, this.#options];
    this.#measuring = new AbortController();
    const { signal } = this.#measuring;
    this.#drawSizes();
    try {
      for (const k of PRESETS.filter((preset) => !picture.sizes.get(key).has(preset))) {
        const { answer } = await compress(picture.file, { k, ...options }, { fixed: null, locked: [] }, { signal });
        this.#note(picture, key, answer);
        if (answer.k < k) break; // it has no more colours than these
        this.#drawSizes();
      }
    } catch (error) {
      if (!signal.aborted) this.#fire("error", error);
    }
    if (!signal.aborted) this.#stopMeasuring();
    this.#drawSizes();
  }

  #stopMeasuring() {
    this.#measuring?.abort();
    this.#measuring = null;
  }

  #drawSizes() {
    const ks = [...new Set([...PRESETS, ...this.#sizes.keys()])].sort((a, b) => a - b);
    const before = this.#picture?.file.size;
    const now = this.#picture?.result?.answer.k;
    $("sizes").tBodies[0].replaceChildren(...ks.map((k) => {
      const size = this.#sizes.get(k);
      const row = document.createElement("tr");
      if (k === now) row.setAttribute("aria-current", "true");
      const head = Object.assign(document.createElement("th"), { scope: "row" });
      head.append(button(k, String(k)));
      const texts = size ? [bytes(size.bytes), change(before, size.bytes), decibels(size.psnr_db)] : ["–", "–", "–"];
      row.append(head, ...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      return row;
    }));
    $("sizes-invite").textContent = PRESETS.some((k) => k !== now && this.#sizes.has(k)) ? "The file of each k," : INVITATION;
    $("measure").setAttribute("aria-disabled", String(!this.#canMeasure())); // disabled outright, it would lose the focus
  }

  #offer(kMax) {
    const select = $("plot-k-max");
    if (![...select.options].some(({ value }) => value === String(kMax))) select.append(new Option(kMax, kMax));
    select.value = kMax;
  }

  #takeFrom(pressed) {
    if (pressed) this.#fire("take", Number(pressed.dataset.k));
  }

  #fire(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function criterion([words, inShort], k, otherwise, meaning) {
  const item = Object.assign(document.createElement("li"), { title: meaning });
  const said = Object.assign(document.createElement("span"), { textContent: words });
  said.append(Object.assign(document.createElement("small"), { textContent: inShort }));
  item.append(said);
  item.append(k ? button(k, `k = ${k}`) : Object.assign(document.createElement("span"), { textContent: otherwise }));
  return item;
}

function button(k, text) {
  const made = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: text });
  made.dataset.k = k;
  made.setAttribute("aria-label", `Take k = ${k}`);
  return made;
}
