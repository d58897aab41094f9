// The elbow curve as an SVG of our own: it prints, reads aloud and is worked by keys.
import { decibels, scientific } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { top: 16, right: 16, bottom: 34, left: 46 };
const LEAST_HEIGHT = 330;
const LONGEST_EVEN = 24; // longer curves are drawn over octaves of k, so that few colours are not crowded
const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -1e9, End: 1e9 };

/** A plot in a box; fires "point" with a k looked at (or null) and "take" with a k chosen. */
export class Plot extends EventTarget {
  #box;
  #shown = null; // {curve, knee, k, axis}
  #cursor = null; // index into the curve
  #height = LEAST_HEIGHT;
  #x;
  #y;

  constructor(box) {
    super();
    this.#box = box;
    new ResizeObserver(() => this.#draw()).observe(box);
  }

  /**
   * @param {{curve: object[], knee: number | null, k: number | null, axis: "wcss" | "psnr_db"} | null} shown
   */
  show(shown) {
    this.#shown = shown;
    this.#cursor = null;
    this.#draw();
  }

  #draw() {
    if (!this.#shown) return this.#box.replaceChildren();
    const { curve, knee, k, axis } = this.#shown;
    const width = Math.max(240, this.#box.clientWidth);
    this.#height = Math.max(LEAST_HEIGHT, this.#box.clientHeight);
    const points = curve.filter((point) => point[axis] !== null);
    const [low, high] = axis === "wcss" ? [0, points[0]?.wcss ?? 1] : [Math.floor((points[0]?.psnr_db ?? 0) / 5) * 5, Math.ceil((points.at(-1)?.psnr_db ?? 1) / 5) * 5];
    const last = curve.at(-1).k;
    const along = last > LONGEST_EVEN ? Math.log2 : (value) => value - 1;
    this.#x = (value) => MARGIN.left + (along(value) / (along(last) || 1)) * (width - MARGIN.left - MARGIN.right);
    this.#y = (value) => this.#height - MARGIN.bottom - ((value - low) / (high - low || 1)) * (this.#height - MARGIN.top - MARGIN.bottom);
    const svg = node("svg", { viewBox: `0 0 ${width} ${this.#height}`, width, height: this.#height, tabindex: 0, role: "slider", "aria-label": "Elbow curve: arrow keys move along it, Enter takes the k", "aria-valuemin": 1, "aria-valuemax": last });
    svg.append(...this.#grid(width, low, high, last, axis));
    const path = points.map((point) => `${this.#x(point.k).toFixed(1)},${this.#y(point[axis]).toFixed(1)}`);
    svg.append(node("path", { class: "area", d: `M${this.#x(points[0].k)},${this.#y(low)} L${path.join(" L")} L${this.#x(points.at(-1).k)},${this.#y(low)} Z` }));
    svg.append(node("path", { class: "curve", d: `M${path.join(" L")}` }));
    if (points.length <= 40) svg.append(...points.map((point) => node("circle", { class: "dot", cx: this.#x(point.k), cy: this.#y(point[axis]), r: 2.5 })));
    this.#mark(svg, points, knee, "knee", `knee: k = ${knee}`, width);
    this.#mark(svg, points, k, "now", "", width);
    svg.append(node("g", { class: "cursor" }));
    const focused = this.#box.contains(document.activeElement);
    this.#box.replaceChildren(svg);
    this.#listen(svg);
    this.#pointAt(curve.findIndex((point) => point.k === (k ?? knee)), { silent: true });
    if (focused) svg.focus({ preventScroll: true });
  }

  #grid(width, low, high, last, axis) {
    const parts = [];
    for (let i = 0; i <= 4; i += 1) {
      const value = low + (i / 4) * (high - low);
      const y = this.#y(value);
      parts.push(node("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }));
      const label = axis === "wcss" ? `${25 * i} %` : `${Math.round(value)} dB`;
      parts.push(node("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, label));
    }
    for (const value of ticks(last)) {
      parts.push(node("text", { x: this.#x(value), y: this.#height - 14, "text-anchor": "middle" }, String(value)));
    }
    return parts;
  }

  #mark(svg, points, k, name, label, width) {
    const point = points.find((other) => other.k === k);
    if (!point) return;
    const [x, y] = [this.#x(k), this.#y(point[this.#shown.axis])];
    svg.append(node("line", { class: name, x1: x, x2: x, y1: MARGIN.top, y2: this.#height - MARGIN.bottom }));
    svg.append(node("circle", { class: name, cx: x, cy: y, r: name === "now" ? 6 : 4.5 }));
    const isRight = x > width - 110;
    if (label) svg.append(node("text", { class: name, x: x + (isRight ? -8 : 8), y: MARGIN.top + 8, "text-anchor": isRight ? "end" : "start" }, label));
  }

  #listen(svg) {
    const nearest = (event) => {
      const x = ((event.clientX - svg.getBoundingClientRect().left) * svg.viewBox.baseVal.width) / svg.clientWidth;
      const { curve } = this.#shown;
      return curve.reduce((best, point, i) => (Math.abs(this.#x(point.k) - x) < Math.abs(this.#x(curve[best].k) - x) ? i : best), 0);
    };
    svg.addEventListener("pointermove", (event) => this.#pointAt(nearest(event)));
    svg.addEventListener("pointerleave", () => this.dispatchEvent(new CustomEvent("point", { detail: null })));
    svg.addEventListener("click", (event) => {
      this.#pointAt(nearest(event));
      this.#take();
    });
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") this.#take();
      else if (event.key in STEPS) this.#pointAt(this.#cursor + STEPS[event.key]);
      else return;
      event.preventDefault();
    });
  }

  #take() {
    this.dispatchEvent(new CustomEvent("take", { detail: this.#shown.curve[this.#cursor].k }));
  }

  #pointAt(index, { silent = false } = {}) {
    const { curve, axis } = this.#shown;
    this.#cursor = Math.min(curve.length - 1, Math.max(0, index));
    const point = curve[this.#cursor];
    const svg = this.#box.firstChild;
    svg.setAttribute("aria-valuenow", point.k);
    svg.setAttribute("aria-valuetext", `k = ${point.k}, WCSS ${scientific(point.wcss)}, PSNR ${decibels(point.psnr_db)}`);
    if (silent) return;
    const ring = point[axis] === null ? [] : [node("circle", { cx: this.#x(point.k), cy: this.#y(point[axis]), r: 8 })];
    svg.querySelector(".cursor").replaceChildren(...ring);
    this.dispatchEvent(new CustomEvent("point", { detail: point.k }));
  }
}

/** The k that are written under the axis. */
function ticks(last) {
  if (last > LONGEST_EVEN) return [1, 2, 4, 8, 16, 32, 64, 128, 256].filter((k) => k <= last);
  return Array.from({ length: last }, (_, i) => i + 1).filter((k) => last <= 12 || k === 1 || k % 2 === 0);
}

function node(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
