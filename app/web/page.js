// The page: what happens when.
import { hasKey, hexOf, queryOf } from "./api.js";
import { Compare } from "./compare.js";
import { Controls } from "./controls.js";
import { Cube } from "./cube.js";
import { Elbow } from "./elbow.js";
import { writePalette } from "./exports.js";
import { copyPicture, copyText, loadSample, receiveFiles, save } from "./files.js";
import { describePalette, Palette } from "./palette.js";
import { Batch } from "./batch.js";
import { Notices } from "./notices.js";
import { Pictures } from "./pictures.js";
import { bytes, change, decibels, number, plural, quoted, scientific, stem } from "./words.js";

const $ = (id) => document.getElementById(id);
const KEEPS_PALETTE = new Set(["prefer", "dither", "dither_method", "thrift", "space", "format", "order", "metadata", "skip_if_larger"]); // these do not ask for other colours
const PATIENCE_MS = 150; // shorter waits show nothing
const LONG_MS = 2000; // longer ones can be stopped

const colors = { fixed: null, locked: [] }; // of every picture; one whose palette was changed by hand has its own
const controls = new Controls();
const pictures = new Pictures();
const compare = new Compare();
const palette = new Palette();
const elbow = new Elbow();
const cube = new Cube($("cube"));
const batch = new Batch(pictures);
const notices = new Notices($("notices"), { controls, pictures, retry });
let shownUrl = "";
let busyTimer = 0;
let longTimer = 0;

function open(files, { credit = "" } = {}) {
  $("credit").textContent = credit;
  pictures.replace(files);
  run();
}

function add(files) {
  pictures.add(files);
  resume();
}

function remove(picture) {
  pictures.remove(picture);
  resume();
}

async function openSample() {
  open([await loadSample()], { credit: "The sample is “flower” by vultilion, CC BY 2.0, by way of scikit-learn." });
}

const fixedOf = (picture) => picture.fixed ?? colors.fixed;

/** Compute what is due: every picture, if nothing else is said, and whatever is not there yet. */
function run(isDue) {
  const { fixed, locked } = colors;
  pictures.run(controls.options, (picture) => ({ fixed: picture.fixed ?? fixed, locked }), isDue);
  batch.draw();
}

/** Go on with what is not there yet. */
const resume = () => run(() => false);

function retry() {
  const { current } = pictures;
  show(current);
  showElbow();
  resume();
}

/** The whole palette of every picture, or null to have them computed again. */
function fixAll(fixed) {
  colors.fixed = fixed;
  for (const picture of pictures.list) picture.fixed = null;
}

/** The palette of the picture on the stage, changed by hand. */
function fixCurrent(fixed) {
  const { current } = pictures;
  current.fixed = fixed;
  run((picture) => picture === current);
}

function lock(locked) {
  colors.locked = locked;
  controls.showLocked(locked);
}

receiveFiles(open, add);
$("sample").addEventListener("click", openSample);

controls.addEventListener("change", ({ detail: { name, colors: given, problem } }) => {
  if (problem) return notices.say("error", problem);
  if (name === "order") palette.sortAsInFile();
  if (name === "reserve") lock(given);
  if (name === "reset") lock([]);
  if (name === "palette") fixAll(given.length ? given : null);
  else if (!KEEPS_PALETTE.has(name)) fixAll(null);
  if (name === "k_max" && controls.options.k !== "elbow") return showElbow();
  return run();
});

// What is looked at.

pictures.addEventListener("select", async ({ detail: picture }) => {
  shownUrl = "";
  elbow.clear();
  cube.clear();
  showFacts(null);
  palette.pause();
  $("chip-before").hidden = $("chip-after").hidden = true;
  const isReadable = await compare.showBefore(picture.url, picture.name);
  if (picture !== pictures.current) return;
  if (isReadable) {
    $("chip-before").hidden = false;
    if (!picture.result) $("chip-before").lastElementChild.textContent = bytes(picture.file.size);
    cube.showPixels($("before"));
  }
  show(picture);
});

pictures.addEventListener("update", ({ detail: picture }) => {
  batch.draw();
  if (picture !== pictures.current) return;
  show(picture);
});

function show(picture) {
  showBusy(picture.state === "working");
  if (picture.result) showResult(picture);
  else if (picture.state === "failed") showNothing();
  notices.about(picture);
}

/** What was shown belongs to another picture. */
function showNothing() {
  palette.show([], colors.locked);
  $("palette-note").textContent = $("curl").textContent = "";
}

function showBusy(isBusy) {
  clearTimeout(busyTimer);
  clearTimeout(longTimer);
  $("stage").setAttribute("aria-busy", String(isBusy));
  if (isBusy) {
    busyTimer = setTimeout(() => { $("busy").hidden = false; }, PATIENCE_MS);
    longTimer = setTimeout(() => notices.sayLong(pictures.current), LONG_MS);
  } else $("busy").hidden = true;
}

async function showResult(picture) {
  const { answer, params, url } = picture.result;
  if (shownUrl === url) return;
  shownUrl = url;
  showFacts(picture);
  controls.showAnswer(answer.k, fixedOf(picture));
  palette.show(answer.palette, colors.locked);
  $("palette-note").textContent = describePalette(answer, Boolean(fixedOf(picture)));
  cube.showPalette(answer.palette);
  $("curl").textContent = curlLine(picture, params);
  await compare.showAfter(url, picture.name, answer.image);
  showElbow();
}

function showElbow() {
  const picture = pictures.current;
  if (picture?.result) elbow.show(picture, { kMax: controls.kMax, minPsnr: controls.minPsnr, options: controls.options });
}

function showFacts(picture) {
  const result = picture?.result;
  for (const button of document.querySelectorAll("#save, #copy-picture, #copy-curl, [data-format]")) button.disabled = !result;
  const facts = result ? factsOf(picture, result) : {};
  for (const id of ["saving", "size", "k-out", "psnr", "wcss"]) $(id).textContent = facts[id] ?? "–";
  $("saving").classList.toggle("worse", Boolean(result) && result.answer.image.bytes > picture.file.size);
  $("saving-label").textContent = $("saving").classList.contains("worse") ? "Larger" : "Saved";
  $("psnr-label").textContent = Number.isFinite(result?.answer.quality) ? "Quality" : "PSNR";
  if (!result) return;
  $("chip-before").lastElementChild.textContent = `${bytes(picture.file.size)} · ${plural(result.answer.input.unique_colors, "colour")}`;
  $("chip-after").hidden = false;
  $("chip-after").lastElementChild.textContent = `${facts["k-out"]} colours · ${bytes(result.answer.image.bytes)}`;
}

const factsOf = ({ file }, { answer }) => ({
  saving: change(file.size, answer.image.bytes),
  size: `${bytes(file.size)} → ${bytes(answer.image.bytes)}`,
  "k-out": number(answer.k),
  psnr: answer.quality === null ? decibels(answer.psnr_db) : answer.quality.toFixed(0),
  wcss: scientific(answer.wcss),
});

// Colours of one's own.

palette.addEventListener("lock", ({ detail: { hex } }) => {
  lock(colors.locked.includes(hex) ? colors.locked.filter((other) => other !== hex) : [...colors.locked, hex]);
  palette.show(pictures.current.result.answer.palette, colors.locked);
});

palette.addEventListener("replace", ({ detail: { hex, by } }) => {
  lock([...colors.locked.filter((other) => other !== hex), by]);
  fixCurrent(shownColors().map((color) => (color === hex ? by : color)));
});

palette.addEventListener("remove", ({ detail: { hex } }) => {
  lock(colors.locked.filter((other) => other !== hex));
  fixCurrent(shownColors().filter((color) => color !== hex));
});

const shownColors = () => pictures.current.result.answer.palette.map(hexOf);

elbow.addEventListener("take", ({ detail: k }) => controls.takeK(k));
elbow.addEventListener("k_max", ({ detail: kMax }) => controls.takeKMax(kMax));
elbow.addEventListener("error", ({ detail: error }) => notices.sayError(error));

// Taking it away.

const extension = (blob) => blob.type.split("/")[1];
const resultName = ({ name, result: { answer, blob } }) => (answer.kept_original ? name : `${stem(name)}-k${answer.k}.${extension(blob)}`);

const saveResult = (picture) => save(picture.result.blob, resultName(picture));

$("save").addEventListener("click", () => saveResult(pictures.current));
$("copy-picture").addEventListener("click", async () => {
  toast((await copyPicture($("after"))) ? "Picture copied" : "This browser does not let a page copy pictures; save it instead.");
});
$("copy-curl").addEventListener("click", async () => {
  toast((await copyText($("curl").textContent)) ? "Command copied" : "This browser does not let a page copy.");
});
palette.addEventListener("toast", ({ detail: { text } }) => toast(text));
for (const button of document.querySelectorAll("[data-format]")) button.addEventListener("click", () => exportPalette(button.dataset.format));

async function exportPalette(format) {
  const { name, result: { answer } } = pictures.current;
  const to = `${stem(name)}-palette.${format}`;
  if (format === "json") return save(new Blob([JSON.stringify(answer, withoutPicture, 1)], { type: "application/json" }), to);
  return save(await writePalette(answer.palette, format), to);
}

const withoutPicture = (name, value) => (name === "data" ? undefined : value);

function curlLine(picture, params) {
  const name = picture.name.replace(/["\\]/g, "\\$&");
  const file = /[",;\\]/.test(picture.name) ? `file=@"${name}"` : `file=@${picture.name}`;
  const url = `${location.origin}/compress?${queryOf(params)}`;
  const key = hasKey() ? ["-H", '"Authorization: Bearer $KEY"'] : [];
  return ["curl", "-F", quoted(file), ...key, "-H", `'Accept: ${picture.result.blob.type}'`, `'${url}'`, "-o", quoted(resultName(picture))].join(" ");
}

let toastTimer = 0;
function toast(text) {
  clearTimeout(toastTimer);
  $("toast").textContent = text;
  toastTimer = setTimeout(() => { $("toast").textContent = ""; }, 2500);
}

batch.addEventListener("save", ({ detail: picture }) => saveResult(picture));
batch.addEventListener("remove", ({ detail: picture }) => remove(picture));
batch.addEventListener("error", ({ detail: error }) => notices.sayError(error));
batch.names = resultName;

openSample();
