// The pixels as points in the RGB cube, with the palette among them.
import { channels } from "./api.js";

const SIDE = 110; // the picture is looked at this small: some ten thousand points
const TURN = 0.12; // radians per key
const EDGES = [[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 3], [2, 6], [3, 7], [4, 5], [4, 6], [5, 7], [6, 7]];
const CORNERS = Array.from({ length: 8 }, (_, i) => [i & 1 ? 255 : 0, i & 2 ? 255 : 0, i & 4 ? 255 : 0]);
const KEYS = { ArrowLeft: [-TURN, 0], ArrowRight: [TURN, 0], ArrowUp: [0, -TURN], ArrowDown: [0, TURN] };

/** A canvas one turns by pointer and by keys. */
export class Cube {
  #canvas;
  #points = []; // [r, g, b], some of the picture's
  #palette = []; // {rgb, share}
  #yaw = -0.7;
  #pitch = 0.45;
  #frame = 0;

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in KEYS)) return;
      event.preventDefault();
      this.#turn(...KEYS[event.key]);
    });
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) this.#turn(event.movementX / 120, event.movementY / 120);
    });
  }

  /** Take the points from a picture that is shown. */
  showPixels(image) {
    const scale = Math.min(1, SIDE / Math.max(image.naturalWidth, image.naturalHeight));
    const [width, height] = [image.naturalWidth, image.naturalHeight].map((side) => Math.max(1, Math.round(side * scale)));
    const small = Object.assign(document.createElement("canvas"), { width, height });
    const context = small.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = false; // colours that are there, not means of them
    context.drawImage(image, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    this.#points = [];
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 127) this.#points.push([data[i], data[i + 1], data[i + 2]]);
    this.#draw();
  }

  showPalette(entries) {
    this.#palette = entries.map(({ hex, share }) => ({ rgb: channels(hex), share }));
    this.#draw();
  }

  clear() {
    this.#points = [];
    this.#palette = [];
    this.#draw();
  }

  /** How it is turned, for whoever wants to know. */
  get turn() {
    return [this.#yaw, this.#pitch];
  }

  #turn(yaw, pitch) {
    this.#yaw += yaw;
    this.#pitch = Math.min(Math.PI / 2, Math.max(-Math.PI / 2, this.#pitch + pitch));
    this.#canvas.dataset.turn = `${this.#yaw.toFixed(3)} ${this.#pitch.toFixed(3)}`;
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    const canvas = this.#canvas;
    const ratio = window.devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const project = this.#projection(width, height);
    const ink = getComputedStyle(canvas).color;
    this.#drawEdges(context, project, ink);
    for (const rgb of this.#points) {
      const [x, y] = project(rgb);
      context.fillStyle = `rgb(${rgb})`;
      context.fillRect(x - 1, y - 1, 2, 2);
    }
    const discs = this.#palette.map(({ rgb, share }) => ({ rgb, share, at: project(rgb) }));
    for (const { rgb, share, at: [x, y] } of discs.sort((a, b) => a.at[2] - b.at[2])) {
      context.beginPath();
      context.arc(x, y, 3.5 + 16 * Math.sqrt(share), 0, 2 * Math.PI);
      context.fillStyle = `rgb(${rgb})`;
      context.strokeStyle = ink;
      context.lineWidth = 1.2;
      context.fill();
      context.stroke();
    }
  }

  #drawEdges(context, project, ink) {
    context.strokeStyle = ink;
    context.globalAlpha = 0.25;
    context.beginPath();
    for (const [from, to] of EDGES) {
      context.moveTo(...project(CORNERS[from]).slice(0, 2));
      context.lineTo(...project(CORNERS[to]).slice(0, 2));
    }
    context.stroke();
    context.globalAlpha = 1;
    context.fillStyle = ink;
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    for (const [name, at] of [["R", [278, 0, 0]], ["G", [0, 278, 0]], ["B", [0, 0, 278]]]) {
      const [x, y] = project(at);
      context.fillText(name, x, y + 4);
    }
  }

  /** Parallel projection, green upward: [r, g, b] -> [x, y, depth]. */
  #projection(width, height) {
    const [sinYaw, cosYaw, sinPitch, cosPitch] = [Math.sin(this.#yaw), Math.cos(this.#yaw), Math.sin(this.#pitch), Math.cos(this.#pitch)];
    const scale = Math.min(width, height) / 460;
    return ([r, g, b]) => {
      const [x, y, z] = [r - 127.5, g - 127.5, b - 127.5];
      const across = x * cosYaw + z * sinYaw;
      const away = -x * sinYaw + z * cosYaw;
      return [width / 2 + scale * across, height / 2 - scale * (y * cosPitch - away * sinPitch), y * sinPitch + away * cosPitch];
    };
  }
}
