// What went wrong, what to do about it, and a button that does it.
import { useKey } from "./api.js";
import { change, explain } from "./words.js";

const SAID_ABOVE = /bytes came/; // the server's words for a result that is larger
const LOSES = /animated/; // more than colours
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
    if (waits) return this.say("info", `The server is busy; it is asked again in ${waits} s.`, [this.#stop]);
    if (state !== "done") return result ? undefined : this.say("plain", "Computing …");
    this.#box.replaceChildren();
    if (result.answer.image.bytes > picture.file.size) this.#sayLarger(picture, result);
    const { kept_original: isKept, warnings } = result.answer;
    if (isKept && !warnings.length) this.#add("info", "It has no more colours than that: the original came back, untouched.");
    for (const warning of warnings.filter((text) => isKept || !SAID_ABOVE.test(text))) this.#add(LOSES.test(warning) ? "warn" : "info", sentence(warning));
    if (!this.#box.children.length) this.#add("plain", describeWork(result));
    return undefined;
  }

  /** Offer an end of the waiting, where nothing is offered yet. */
  sayLong({ waits_s: waits }) {
    if (!waits) this.say("plain", "Still computing …", [this.#stop]);
  }

  get #stop() {
    return ["Stop", () => this.#page.pictures.stop()];
  }

  /** Say one thing alone. */
  say(kind, text, actions = []) {
    this.#box.replaceChildren();
    this.#add(kind, text, actions);
  }

  sayError(error, name = "") {
    if (error.code === "unauthorized") return this.#askForKey();
    const actions = ["missing-image", "unsupported-format", "corrupt-image", "too-large", "too-many-pixels", "bad-parameter"].includes(error.code) ? [] : [["Try again", this.#page.retry]];
    this.say("error", name ? `${name}: ${explain(error)}` : explain(error), actions);
  }

  /** The server wants one of its keys; it is kept until the tab is closed. */
  #askForKey() {
    const field = Object.assign(document.createElement("input"), { type: "password", autocomplete: "off" });
    field.setAttribute("aria-label", "API key");
    const send = () => {
      useKey(field.value);
      this.#page.retry();
    };
    field.addEventListener("keydown", (event) => event.key === "Enter" && send());
    this.say("error", "This server wants an API key.", [["Use this key", send]]);
    this.#box.querySelector("span").after(field);
  }

  #sayLarger({ file }, { answer, params }) {
    const { controls } = this.#page;
    const fewer = FEWER.find((k) => k < answer.k * 0.75);
    const actions = fewer ? [[`k = ${fewer}`, () => controls.takeK(fewer)]] : [];
    if (params.prefer !== "bytes") actions.push(["Prefer bytes", () => controls.takePreference("bytes")]);
    actions.push(["Keep original", () => controls.keepOriginal()]);
    this.#add("warn", `Larger than the upload by ${change(file.size, answer.image.bytes).slice(1)}. Fewer colours make it smaller; a photograph may be smallest as it came.`, actions);
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

/** So that the line is never empty and nothing jumps when there is more to say. */
const describeWork = ({ answer: { engine, timing_ms: timing }, took_ms: took }) =>
  took < timing.kmeans
    ? `Answered in ${seconds(took)}: it was computed before.`
    : `Answered in ${seconds(took)}, of which ${seconds(timing.kmeans)} k-means on ${engine.device}.`;

const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** The server's warnings begin small and end without a full stop. */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/([^.])$/, "$1.");
