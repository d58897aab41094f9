// Before and after under one slider, at whole-number zooms.

const $ = (id) => document.getElementById(id);
const ZOOMS = ["fit", "1", "2", "4", "8"];
const PINCH = 1.5;

/** The stage: two pictures on one sheet, of which the right part shows the one after. */
export class Compare {
  #stage = $("stage");
  #viewport = $("viewport");
  #sheet = $("sheet");
  #before = $("before");
  #after = $("after");
  #split = $("split");
  #line = $("line");
  #zoom = "fit";
  #size = null; // {width, height} in pixels
  #spread = 0; // pixels between two fingers, while there are two

  constructor() {
    this.#split.addEventListener("input", () => this.#draw());
    this.#viewport.addEventListener("scroll", () => this.#draw());
    new ResizeObserver(() => this.#layOut()).observe(this.#viewport);
    $("zoom").addEventListener("change", (event) => this.#zoomTo(event.target.value));
    this.#viewport.addEventListener("dblclick", (event) => this.#zoomTo(this.#zoom === "fit" ? "2" : "fit", event));
    this.#viewport.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    this.#onPinch();
    this.#onDrag(this.#line, (event) => this.#splitAt(event.clientX));
    this.#onDrag(this.#viewport, (event, last) => {
      if (this.#zoom === "fit") this.#splitAt(event.clientX);
      else if (event.pointerType === "mouse") this.#viewport.scrollBy(last.x - event.clientX, last.y - event.clientY);
    });
  }

  /** Show the picture that came; the one after is empty until it is there. */
  async showBefore(url, name) {
    this.#size = null;
    this.#after.hidden = true;
    this.#line.hidden = true;
    this.#before.alt = `${name}, before`;
    this.#before.src = url;
    const readable = await this.#before.decode().then(() => true, () => false);
    if (this.#before.src !== url) return readable;
    this.#before.hidden = !readable;
    if (readable) this.#setSize(this.#before.naturalWidth, this.#before.naturalHeight);
    return readable;
  }

  /** Show the answer to it. */
  async showAfter(url, name, { width, height }) {
    this.#after.alt = `${name}, after`;
    this.#after.src = url;
    await this.#after.decode().catch(() => {});
    if (this.#after.src !== url) return;
    this.#after.hidden = false;
    this.#line.hidden = false;
    this.#setSize(width, height);
  }

  #setSize(width, height) {
    this.#size = { width, height };
    this.#layOut();
  }

  /** CSS pixels per pixel: whole device pixels, except where the picture is fitted in. */
  #scale() {
    if (this.#zoom !== "fit") return Number(this.#zoom) / window.devicePixelRatio;
    const { clientWidth, clientHeight } = this.#stage;
    return Math.min(clientWidth / this.#size.width, clientHeight / this.#size.height);
  }

  #layOut() {
    if (!this.#size) return;
    const scale = this.#scale();
    this.#sheet.style.width = `${this.#size.width * scale}px`;
    this.#sheet.style.height = `${this.#size.height * scale}px`;
    this.#draw();
  }

  #zoomTo(zoom, at) {
    const view = this.#viewport.getBoundingClientRect();
    const x = at ? at.clientX : view.left + view.width / 2;
    const y = at ? at.clientY : view.top + view.height / 2;
    const sheet = this.#sheet.getBoundingClientRect();
    const [u, v] = [(x - sheet.left) / sheet.width, (y - sheet.top) / sheet.height];
    this.#zoom = zoom;
    this.#stage.dataset.zoom = zoom;
    document.querySelector(`input[name="zoom"][value="${zoom}"]`).checked = true;
    this.#layOut();
    const after = this.#sheet.getBoundingClientRect();
    this.#viewport.scrollBy(after.left + u * after.width - x, after.top + v * after.height - y);
    this.#draw();
  }

  #onWheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault(); // a pinch on a touchpad arrives as this
    this.#zoomBy(-Math.sign(event.deltaY), event);
  }

  #zoomBy(step, at) {
    const next = ZOOMS[ZOOMS.indexOf(this.#zoom) + step];
    if (next && this.#size) this.#zoomTo(next, at);
  }

  /** Two fingers on a screen: one step for each PINCH they move apart or together. */
  #onPinch() {
    const between = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    this.#viewport.addEventListener("touchstart", ({ touches }) => {
      if (touches.length === 2) this.#spread = between(touches);
    }, { passive: true });
    this.#viewport.addEventListener("touchmove", (event) => {
      const { touches: [a, b] } = event;
      if (!this.#spread || !b) return;
      if (event.cancelable) event.preventDefault();
      const ratio = between([a, b]) / this.#spread;
      if (ratio < PINCH && ratio > 1 / PINCH) return;
      this.#spread *= ratio;
      this.#zoomBy(ratio > 1 ? 1 : -1, { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 });
    }, { passive: false });
    for (const name of ["touchend", "touchcancel"]) this.#viewport.addEventListener(name, ({ touches }) => { if (!touches.length) this.#spread = 0; });
  }

  #onDrag(element, move) {
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.#size) return;
      let last = { x: event.clientX, y: event.clientY };
      if (event.pointerType !== "touch" || element === this.#line || this.#zoom === "fit") element.setPointerCapture(event.pointerId);
      const onMove = (moved) => {
        if (!this.#spread) move(moved, last);
        last = { x: moved.clientX, y: moved.clientY };
      };
      const onEnd = () => {
        element.removeEventListener("pointermove", onMove);
        for (const name of ["pointerup", "pointercancel"]) element.removeEventListener(name, onEnd);
      };
      element.addEventListener("pointermove", onMove);
      for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, onEnd);
    });
  }

  /** Left and right edge of what can be seen of the sheet, and its own left edge, in the stage. */
  #visible() {
    const stage = this.#stage.getBoundingClientRect();
    const sheet = this.#sheet.getBoundingClientRect();
    return {
      left: Math.max(0, sheet.left - stage.left),
      right: Math.min(stage.width, sheet.right - stage.left),
      origin: sheet.left - stage.left,
    };
  }

  #splitAt(clientX) {
    const { left, right } = this.#visible();
    const x = clientX - this.#stage.getBoundingClientRect().left;
    this.#split.value = (100 * (x - left)) / (right - left);
    this.#draw();
  }

  #draw() {
    if (!this.#size) return;
    const { left, right, origin } = this.#visible();
    const x = left + (this.#split.value / 100) * (right - left);
    this.#after.style.clipPath = `inset(0 0 0 ${Math.max(0, x - origin)}px)`;
    this.#line.style.transform = `translateX(${x}px)`;
  }
}
