// The options: the API's words, its defaults, and only what differs from them is sent.

import { TARGETS } from "./api.js";

const $ = (id) => document.getElementById(id);

const DEFAULTS = { prefer: "looks", dither_method: "diffusion", refine: "1", seed: "0", format: "png", order: "given", metadata: "strip", skip_if_larger: "false" };

// What the API takes where space, dither and thrift are not given.
const PREFERRED = { looks: { space: "oklab", dither: "0.6", thrift: "0" }, bytes: { space: "oklab", dither: "0", thrift: "0.5" } };
const EXACT = { space: "rgb", dither: "0", thrift: "0" }; // with min_psnr

// One step of the slider is one colour to 32, then an eighth of an octave: 64 steps to 256.
const STEPS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32];
for (let k = 34; k <= 64; k += 2) STEPS.push(k);
for (let k = 72; k <= 128; k += 8) STEPS.push(k);
for (let k = 144; k <= 256; k += 16) STEPS.push(k);

// Of thrift the most happens below 1.
const THRIFTS = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 7, 10];

const COLOR = /^#?[0-9a-f]{6}([0-9a-f]{2})?$/i;
const NAMED = { black: "#000000", white: "#ffffff" };
const SETTLED = new Set(["k", "dither", "thrift"]);
const SETTLE_MS = 120; // keys held down on a slider count once

/** Fires "change" with the name of the option that changed; "palette" and "reserve" carry the colours. */
export class Controls extends EventTarget {
  #k = "64";
  #usual = PREFERRED.looks;
  #placed = 64; // the k that is shown
  #timer = 0;

  constructor() {
    super();
    const form = $("controls");
    $("k-slider").max = STEPS.length - 1;
    $("k-slider").addEventListener("input", () => this.#showK(String(STEPS[$("k-slider").value])));
    $("k-slider").addEventListener("change", () => this.#changed("k"));
    $("k-number").addEventListener("focus", () => $("k-number").select());
    $("k-number").addEventListener("change", () => this.takeK(bounded($("k-number"), 64)));
    $("k-number").addEventListener("keydown", ({ key }) => key === "Enter" && $("k-number").value === String(this.#placed) && this.takeK(this.#placed)); // no change, and yet a choice
    $("k-presets").addEventListener("change", (event) => this.takeK(event.target.value));
    for (const name of [...TARGETS, "k_max", "seed"]) $(name).addEventListener("change", () => this.#onNumber(name));
    $("dither").addEventListener("input", () => this.#onStrength("dither", "thrift"));
    $("thrift").addEventListener("input", () => this.#onStrength("thrift", "dither"));
    $("target").addEventListener("change", () => this.takeK("auto"));
    for (const name of ["dither", "dither_method", "thrift", "refine", "order", "metadata"]) $(name).addEventListener("change", () => this.#changed(name));
    for (const name of ["space", "format"]) for (const radio of form.elements[name]) radio.addEventListener("change", () => this.#changed(name));
    for (const radio of form.elements.prefer) radio.addEventListener("change", () => this.#onPrefer());
    $("skip_if_larger").addEventListener("change", () => this.#changed("skip_if_larger"));
    for (const name of ["palette", "reserve"]) $(`${name}-text`).addEventListener("change", () => this.#onColors(name));
    form.addEventListener("submit", (event) => event.preventDefault());
    $("defaults").addEventListener("click", () => this.#reset());
    this.#showK("64");
  }

  /** Parameters of /compress. */
  get options() {
    const { elements } = $("controls");
    const usual = { ...DEFAULTS, ...this.#usual };
    const chosen = {
      prefer: elements.prefer.value,
      space: elements.space.value,
      dither: this.#dither,
      dither_method: $("dither_method").value,
      thrift: this.#thrift,
      refine: $("refine").value,
      seed: $("seed").value,
      format: elements.format.value,
      order: $("order").value,
      metadata: $("metadata").value,
      skip_if_larger: String($("skip_if_larger").checked),
    };
    // One excludes the other: whoever gives one is given none of the other.
    if (chosen.thrift !== "0") chosen.dither = usual.dither;
    else if (chosen.dither !== "0") chosen.thrift = usual.thrift;
    const options = { k: this.#k };
    if (this.#k === "auto") options[$("target").value] = $($("target").value).value;
    if (this.#k === "elbow") options.k_max = $("k_max").value;
    for (const [name, value] of Object.entries(chosen)) if (value !== usual[name]) options[name] = value;
    return options;
  }

  get kMax() {
    return Number($("k_max").value);
  }

  get minPsnr() {
    return Number($("min_psnr").value);
  }

  /** Choose k: a number as text, "auto" or "elbow". */
  takeK(k) {
    this.#showK(String(k));
    this.#changed("k");
  }

  takePreference(prefer) {
    $("controls").elements.prefer.value = prefer;
    this.#onPrefer();
  }

  keepOriginal() {
    $("skip_if_larger").checked = true;
    this.#changed("skip_if_larger");
  }

  takeKMax(kMax) {
    $("k_max").value = kMax;
    this.#changed("k_max");
  }

  /** Show what k came out: where the server chose it, and where there were fewer colours. */
  showAnswer(k, palette) {
    if (palette) this.#check("");
    if (palette || Number.isNaN(Number(this.#k))) this.#placeK(k);
    else if (document.activeElement !== $("k-number")) this.#showK(this.#k); // a palette of one's own is gone
    $("palette-text").value = palette ? palette.join(", ") : "";
  }

  showLocked(colors) {
    $("reserve-text").value = colors.join(", ");
  }

  get #dither() {
    return $("dither").value;
  }

  get #thrift() {
    return String(THRIFTS[$("thrift").value]);
  }

  #showK(k) {
    this.#k = k;
    this.#check(k);
    $("target-row").hidden = k !== "auto";
    for (const name of TARGETS) $(`${name}-row`).hidden = k !== "auto" || $("target").value !== name;
    $("k-max-row").hidden = k !== "elbow";
    if (!Number.isNaN(Number(k))) this.#placeK(Number(k));
    this.#followUsual();
  }

  #check(k) {
    for (const radio of $("k-presets").querySelectorAll("input")) radio.checked = radio.value === k;
  }

  #placeK(k) {
    this.#placed = k;
    const step = STEPS.findLastIndex((value) => value <= k);
    $("k-slider").value = step;
    $("k-slider").setAttribute("aria-valuetext", `${k} colours`);
    fill($("k-slider"));
    $("k-number").value = k;
  }

  #showStrengths() {
    for (const [name, value] of [["dither", this.#dither], ["thrift", this.#thrift]]) {
      const words = Number(value) ? Number(value).toFixed(2) : "off";
      $(`${name}-out`).value = words;
      $(name).setAttribute("aria-valuetext", words);
      fill($(name));
    }
  }

  #onStrength(name, other) {
    const usual = Number(this.#usual[other]);
    const back = other === "thrift" ? THRIFTS.indexOf(usual) : usual;
    $(other).value = Number($(name).value) ? 0 : back;
    this.#showStrengths();
  }

  #onPrefer() {
    this.#followUsual(true);
    this.#changed("prefer");
  }

  /** Show the space, dither and thrift that are usual with what was chosen, unless others were. */
  #followUsual(always = false) {
    const { elements } = $("controls");
    const before = this.#usual;
    this.#usual = this.#k === "auto" && $("target").value === "min_psnr" ? EXACT : PREFERRED[elements.prefer.value];
    if (always || elements.space.value === before.space) elements.space.value = this.#usual.space;
    if (always || (this.#dither === before.dither && this.#thrift === before.thrift)) {
      $("dither").value = this.#usual.dither;
      $("thrift").value = THRIFTS.indexOf(Number(this.#usual.thrift));
    }
    this.#showStrengths();
  }

  #onNumber(name) {
    $(name).value = bounded($(name), Number($(name).defaultValue));
    this.#changed(name);
  }

  #onColors(name) {
    const field = $(`${name}-text`);
    const colors = field.value.split(/[\s,;]+/).filter(Boolean).map((color) => NAMED[color.toLowerCase()] ?? color);
    const odd = colors.find((color) => !COLOR.test(color));
    field.setAttribute("aria-invalid", String(Boolean(odd) || colors.length > 256));
    if (odd) return this.#changed(name, { problem: `"${odd}" is no colour: write #rrggbb, separated by commas.` });
    if (colors.length > 256) return this.#changed(name, { problem: `${colors.length} colours are too many: a palette holds 256.` });
    return this.#changed(name, { colors: [...new Set(colors.map((color) => `#${color.replace("#", "").toLowerCase()}`))] });
  }

  #reset() {
    $("controls").reset();
    this.#showK("64");
    this.#changed("reset");
  }

  #changed(name, detail = {}) {
    clearTimeout(this.#timer);
    const fire = () => this.dispatchEvent(new CustomEvent("change", { detail: { name, ...detail } }));
    if (SETTLED.has(name)) this.#timer = setTimeout(fire, SETTLE_MS);
    else fire();
  }
}

/** What a number field holds, within its bounds. */
function bounded(field, fallback) {
  const value = field.value === "" || Number.isNaN(field.valueAsNumber) ? fallback : field.valueAsNumber;
  const whole = field.step === "1" ? Math.round(value) : value;
  return Math.min(field.max === "" ? Infinity : Number(field.max), Math.max(Number(field.min), whole));
}

/** How far a slider's track is filled, for browsers that do not fill it themselves. */
const fill = (slider) => slider.style.setProperty("--fill", `${(100 * (slider.value - slider.min)) / (slider.max - slider.min)}%`);
