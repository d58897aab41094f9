// Several pictures: a list with the state and the saving of each, and one ZIP.
import { save } from "./files.js";
import { bytes, change, explain, plural } from "./words.js";
import { zip } from "./zip.js";

const $ = (id) => document.getElementById(id);

/** The list; hidden while there is one picture. Fires "save" and "remove" with a picture, and "error". */
export class Batch extends EventTarget {
  #pictures;
  #rows = new Map(); // picture -> its parts

  /** How a result is called: (picture) -> name. */
  names = (picture) => picture.name;

  constructor(pictures) {
    super();
    this.#pictures = pictures;
    $("zip").addEventListener("click", () => this.#save());
    pictures.addEventListener("select", () => this.draw());
  }

  draw() {
    const { list, current } = this.#pictures;
    $("batch").hidden = list.length < 2;
    if (list.length < 2) return;
    if (list.some((picture) => !this.#rows.has(picture)) || this.#rows.size !== list.length) this.#build(list);
    for (const picture of list) this.#show(picture, picture === current);
    this.#sum(list);
  }

  #build(list) {
    this.#rows = new Map(list.map((picture) => [picture, this.#row(picture)]));
    $("batch-list").replaceChildren(...[...this.#rows.values()].map(({ item }) => item));
  }

  #row(picture) {
    const item = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const thumb = Object.assign(document.createElement("img"), { src: picture.url, alt: "", loading: "lazy", decoding: "async" });
    thumb.addEventListener("error", () => thumb.removeAttribute("src")); // no picture
    const name = element("span", "name", picture.name);
    const state = element("span", "state", "");
    const saving = element("span", "saved", "");
    button.append(thumb, name, state, saving);
    button.addEventListener("click", () => this.#pictures.select(picture));
    const [keep, remove] = [["Save", "save"], ["×", "remove"]].map(([textContent, what]) => {
      const action = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent });
      action.setAttribute("aria-label", `${what === "save" ? "Save" : "Remove"} ${picture.name}`);
      action.addEventListener("click", () => this.#act(what, picture));
      return action;
    });
    item.append(button, keep, remove);
    return { item, button, state, saving, keep };
  }

  #act(what, picture) {
    const at = this.#pictures.list.indexOf(picture);
    this.dispatchEvent(new CustomEvent(what, { detail: picture }));
    if (what === "remove") $("batch-list").children[Math.min(at, this.#pictures.list.length - 1)]?.querySelector("button").focus();
  }

  #show(picture, isCurrent) {
    const { button, state, saving, keep } = this.#rows.get(picture);
    const { result, file } = picture;
    button.setAttribute("aria-pressed", String(isCurrent));
    button.dataset.state = picture.state;
    state.textContent = STATES[picture.state](picture);
    const isDone = picture.state === "done";
    keep.disabled = !isDone;
    saving.textContent = isDone ? change(file.size, result.answer.image.bytes) : "";
    saving.classList.toggle("worse", isDone && result.answer.image.bytes > file.size);
  }

  #sum(list) {
    const done = list.filter(({ state }) => state === "done");
    const over = list.filter(({ state }) => state === "done" || state === "failed").length;
    const before = done.reduce((sum, { file }) => sum + file.size, 0);
    const after = done.reduce((sum, { result }) => sum + result.answer.image.bytes, 0);
    $("batch-progress").value = over / list.length;
    $("batch-progress").hidden = over === list.length;
    $("zip").disabled = over < list.length || !done.length;
    const failed = over - done.length ? ` · ${over - done.length} failed` : "";
    $("batch-sum").textContent = over < list.length ? `${over} of ${list.length} done` : `${plural(done.length, "picture")} · ${bytes(before)} → ${bytes(after)} · ${done.length ? change(before, after) : ""}${failed}`;
  }

  async #save() {
    const done = this.#pictures.list.filter(({ state }) => state === "done");
    const names = distinct(done.map((picture) => this.names(picture)));
    try {
      save(await zip(done.map(({ result }, i) => ({ name: names[i], blob: result.blob }))), "pictures.zip");
    } catch (error) {
      this.dispatchEvent(new CustomEvent("error", { detail: error }));
    }
  }
}

const STATES = {
  waiting: () => "waiting",
  working: ({ waits_s: waits }) => (waits ? `server busy, again in ${waits} s` : "computing …"),
  done: ({ file, result }) => `${bytes(file.size)} → ${bytes(result.answer.image.bytes)}`,
  failed: ({ error }) => error.title || explain(error),
};

/** "a.png", "a.png" -> "a.png", "a-2.png". */
export function distinct(names) {
  const taken = new Set();
  return names.map((name) => {
    let candidate = name;
    for (let i = 2; taken.has(candidate); i += 1) candidate = name.replace(/(\.[^.]*)?$/, `-${i}$1`);
    taken.add(candidate);
    return candidate;
  });
}

const element = (tag, className, textContent) => Object.assign(document.createElement(tag), { className, textContent });
