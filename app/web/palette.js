// The palette as swatches: hex, share, lock, replace, remove, sort.
import { channels, hexOf } from "./api.js";
import { copyText } from "./files.js";
import { number, percent, plural } from "./words.js";

const $ = (id) => document.getElementById(id);
const MOST_WITH_TEXT = 48; // more swatches than these are small and without text

const linear = (level) => (level <= 10 ? level / 3294.6 : ((level / 255 + 0.055) / 1.055) ** 2.4);
const luminance = (hex) => channels(hex).reduce((sum, level, i) => sum + [0.2126, 0.7152, 0.0722][i] * linear(level), 0);

/** Black or white, whichever reads better on a colour (at least 4.5 to 1). */
const inkOn = (hex) => (luminance(hex) > 0.179 ? "#000" : "#fff");

/** A colour as it looks on white paper; what is translucent has a chequered corner. */
function paint(box, hex) {
  const alpha = parseInt(hex.slice(7) || "ff", 16) / 255;
  const onPaper = `#${channels(hex).map((level) => Math.round(255 + alpha * (level - 255)).toString(16).padStart(2, "0")).join("")}`;
  box.style.backgroundColor = onPaper;
  box.style.color = inkOn(onPaper);
  box.classList.toggle("translucent", alpha < 1);
}

function hue(hex) {
  const [r, g, b] = channels(hex);
  const chroma = Math.max(r, g, b) - Math.min(r, g, b);
  if (chroma < 16) return -1000 + luminance(hex); // greys first
  return (Math.atan2(Math.sqrt(3) * (g - b), 2 * r - g - b) * 180) / Math.PI;
}

const ORDERS = {
  share: (a, b) => b.share - a.share,
  lightness: (a, b) => luminance(a.hex) - luminance(b.hex),
  hue: (a, b) => hue(a.hex) - hue(b.hex),
  palette: () => 0,
};

/** Fires "lock", "replace" and "remove" with the colour as hex; "toast" with words. */
export class Palette extends EventTarget {
  #entries = [];
  #locked = new Set();
  #selected = null;
  #box = $("swatches");

  constructor() {
    super();
    $("sort").addEventListener("change", () => this.#draw());
    this.#box.addEventListener("click", (event) => this.#onClick(event.target.closest("button")));
    this.#box.addEventListener("focusin", (event) => this.#select(event.target.dataset.hex));
    this.#box.addEventListener("keydown", (event) => this.#onKey(event));
    $("color-copy").addEventListener("click", () => this.#copy(this.#selected));
    $("color-lock").addEventListener("click", () => this.#fire("lock", { hex: this.#selected }));
    $("color-remove").addEventListener("click", () => this.#fire("remove", { hex: this.#selected }));
    $("color-replace").addEventListener("change", (event) => {
      const [hex, by] = [this.#selected, event.target.value];
      this.#selected = by;
      this.#fire("replace", { hex, by });
    });
  }

  /** Show a palette; `locked` are hex colours. */
  show(entries, locked) {
    this.#entries = entries.map((entry) => ({ ...entry, hex: hexOf(entry) }));
    this.#locked = new Set(locked);
    if (!this.#entries.some(({ hex }) => hex === this.#selected)) this.#selected = null;
    this.#draw();
  }

  /** What is shown is another picture's: it can be copied, not changed. */
  pause() {
    for (const id of ["color-lock", "color-replace", "color-remove"]) $(id).disabled = true;
  }

  /** Show the order that was asked for. */
  sortAsInFile() {
    $("sort").value = "palette";
    this.#draw();
  }

  #draw() {
    const focused = this.#box.contains(document.activeElement);
    const sorted = [...this.#entries].sort(ORDERS[$("sort").value]);
    this.#box.classList.toggle("small", sorted.length > MOST_WITH_TEXT);
    this.#box.replaceChildren(...sorted.map((entry) => this.#swatch(entry)));
    for (const id of ["color-copy", "color-lock", "color-replace"]) $(id).disabled = !sorted.length;
    if (!sorted.length) return this.#clearLine();
    this.#select(this.#selected ?? sorted[0].hex);
    if (focused) this.#button(this.#selected)?.focus({ preventScroll: true });
  }

  #swatch({ hex, share }) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "swatch", tabIndex: -1 });
    const isLocked = this.#locked.has(hex);
    button.dataset.hex = hex;
    button.classList.toggle("locked", isLocked);
    button.title = `${hex} · ${percent(share)}`;
    button.setAttribute("aria-label", `${hex}, ${percent(share)}${isLocked ? ", locked" : ""}`);
    paint(button, hex);
    if (this.#entries.length <= MOST_WITH_TEXT) {
      button.append(element("span", "swatch-hex", hex), element("span", "swatch-share", percent(share)));
    }
    return button;
  }

  #clearLine() {
    $("color-chip").removeAttribute("style");
    $("color-text").replaceChildren();
    $("color-remove").disabled = true;
  }

  #button(hex) {
    return this.#box.querySelector(`[data-hex="${hex}"]`);
  }

  /** One swatch is in the tab order; the line beneath is about it. */
  #select(hex) {
    this.#selected = hex;
    for (const button of this.#box.children) {
      button.tabIndex = button.dataset.hex === hex ? 0 : -1;
      button.classList.toggle("selected", button.dataset.hex === hex);
    }
    const entry = this.#entries.find((other) => other.hex === hex);
    paint($("color-chip"), hex);
    $("color-text").replaceChildren(
      element("code", "", hex),
      element("span", "", ` rgb(${entry.rgb.join(", ")}) · ${percent(entry.share)} · ${plural(entry.count, "pixel")}`),
    );
    $("color-lock").setAttribute("aria-pressed", String(this.#locked.has(hex)));
    $("color-lock").textContent = this.#locked.has(hex) ? "Locked" : "Lock";
    $("color-remove").disabled = this.#entries.length < 2;
    $("color-replace").value = hex.slice(0, 7);
  }

  #onClick(button) {
    if (!button) return;
    this.#select(button.dataset.hex);
    this.#copy(button.dataset.hex);
  }

  #onKey(event) {
    const buttons = [...this.#box.children];
    const at = buttons.indexOf(document.activeElement);
    const row = buttons.filter((button) => button.offsetTop === buttons[0].offsetTop).length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row, Home: -at, End: buttons.length - 1 - at }[event.key];
    if (step === undefined || at < 0) return;
    event.preventDefault();
    buttons[Math.min(buttons.length - 1, Math.max(0, at + step))].focus();
  }

  async #copy(hex) {
    this.#fire("toast", { text: (await copyText(hex)) ? `${hex} copied` : `${hex}: this browser does not let a page copy` });
  }

  #fire(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** What stands beside the title. */
export const describePalette = ({ k, k_reason: reason, input }, isFixed) =>
  `${plural(k, "colour")} of ${number(input.unique_colors)}${isFixed ? ", fixed until k is chosen again" : REASONS[reason] ?? ""}`;

const REASONS = { elbow: ", the knee of the curve", min_psnr: ", the fewest that reach min_psnr", min_quality: ", the fewest that reach min_quality", max_bytes: ", the most that fit into max_bytes", "distinct colors": ", all there are" };

const element = (tag, className, textContent) => Object.assign(document.createElement(tag), { className, textContent });
