// What went wrong, what to do about it, and a button that does it.
import { bytes, explain } from "./words.js";

const FEWER = [128, 64, 32, 16, 8, 4];

/** Messages under the picture: errors, waits, warnings, and what to try where a result is larger. */
export class Notices {
  #box;
  #page;

  constructor(box, page) {
    this.#box = box;
    this.#page = page;
  }

  /** Say how things are with a picture. */
  about(picture) {
    const { state, error, result, waits_s: waits } = picture;
    if (state === "failed") return this.sayError(error, picture.name);
    if (waits) return this.say("info", `The server is busy; it is asked again in ${waits} s.`);
    this.#box.replaceChildren();
    if (state !== "done") return undefined;
    if (result.answer.image.bytes > picture.file.size) this.#sayLarger(picture, result);
    for (const warning of result.answer.warnings) this.#add("info", sentence(warning));
    return undefined;
  }

  /** Say one thing alone. */
  say(kind, text, actions = []) {
    this.#box.replaceChildren();
    this.#add(kind, text, actions);
  }

  sayError(error, name = "") {
    const actions = ["unsupported-format", "corrupt-image", "too-large", "too-many-pixels"].includes(error.code) ? [] : [["Try again", this.#page.retry]];
    this.say("error", name ? `${name}: ${explain(error)}` : explain(error), actions);
  }

  #sayLarger({ file }, { answer, params }) {
    const { controls } = this.#page;
    const fewer = FEWER.find((k) => k < answer.k * 0.75);
    const actions = fewer ? [[`k = ${fewer}`, () => controls.takeK(fewer)]] : [];
    if (params.dither) actions.push(["No dithering", () => controls.takeDither("0")]);
    const isPhoto = answer.input.media_type === "image/jpeg" || answer.input.media_type === "image/webp";
    const keep = isPhoto ? " A photograph is often smallest as it came: then keep the original." : "";
    this.#add("warn", `Larger than the upload: ${bytes(answer.image.bytes)} instead of ${bytes(file.size)}. Fewer colours${params.dither ? " or no dithering" : ""} make it smaller.${keep}`, actions);
  }

  #add(kind, text, actions = []) {
    const notice = Object.assign(document.createElement("p"), { className: `notice ${kind}` });
    notice.append(Object.assign(document.createElement("span"), { textContent: text }));
    for (const [label, run] of actions) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
      button.addEventListener("click", () => run());
      notice.append(button);
    }
    this.#box.append(notice);
  }
}

/** The server's warnings begin small and end without a full stop. */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/([^.])$/, "$1.");
