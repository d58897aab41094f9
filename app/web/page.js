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
const KEEPS_PALETTE = new Set(["prefer", "dither", "thrift", "space", "format", "order", "metadata", "skip_if_larger"]); // these do not ask for other colours
const PATIENCE_MS = 150; // shorter waits show nothing

const colors = { fixed: null, locked: [] };
const controls = new Controls();
const pictures = new Pictures();
const compare = new Compare();
const palette = new Palette();
const elbow = new Elbow();
const cube = new Cube($("cube"));
const batch = new Batch(pictures);
const notices = new Notices($("notices"), { controls, pictures, retry: run });
let shownUrl = "";
let busyTimer = 0;

function open(files, { credit = "" } = {}) {
  $("credit").textContent = credit;
  pictures.replace(files);
  run();
}

async function openSample() {
  open([await loadSample()], { credit: "The sample is “flower” by vultilion, CC BY 2.0, by way of scikit-learn." });
}

function run() {
  pictures.run(controls.options, { ...colors });
  batch.draw();
}

function setFixed(fixed) {
  colors.fixed = fixed;
  run();
}

receiveFiles(open);
$("sample").addEventListener("click", openSample);

controls.addEventListener("change", ({ detail: { name, colors: given, problem } }) => {
  if (problem) return notices.say("error", problem);
  if (name === "palette") return setFixed(given.length ? given : null);
  if (name === "reset") colors.locked = [];
  if (name === "order") palette.sortAsInFile();
  if (!KEEPS_PALETTE.has(name)) colors.fixed = null;
  if (name === "k_max" && controls.options.k !== "elbow") return showElbow();
  return run();
});

// What is looked at.

pictures.addEventListener("select", async ({ detail: picture }) => {
  shownUrl = "";
  elbow.clear();
  cube.clear();
  showFacts(null);
  $("chip-before").hidden = $("chip-after").hidden = true;
  const isReadable = await compare.showBefore(picture.url, picture.name);
  if (picture !== pictures.current) return;
  if (isReadable) {
    $("chip-before").hidden = false;
    $("chip-before").lastElementChild.textContent = bytes(picture.file.size);
    cube.showPixels($("before"));
  }
  if (picture.result) showResult(picture);
});

pictures.addEventListener("update", ({ detail: picture }) => {
  batch.draw();
  if (picture !== pictures.current) return;
  showBusy(picture.state === "working");
  if (picture.state === "done") showResult(picture);
  else notices.about(picture);
});

function showBusy(isBusy) {
  clearTimeout(busyTimer);
  $("stage").setAttribute("aria-busy", String(isBusy));
  if (isBusy) busyTimer = setTimeout(() => { $("busy").hidden = false; }, PATIENCE_MS);
  else $("busy").hidden = true;
}

async function showResult(picture) {
  const { answer, params, url } = picture.result;
  notices.about(picture);
  if (shownUrl === url) return;
  shownUrl = url;
  showFacts(picture);
  controls.showAnswer(answer.k, colors.fixed);
  palette.show(answer.palette, colors.locked);
  $("palette-note").textContent = describePalette(answer, Boolean(colors.fixed));
  cube.showPalette(answer.palette);
  $("curl").textContent = curlLine(picture, params);
  await compare.showAfter(url, picture.name, answer.image);
  showElbow();
}

function showElbow() {
  const picture = pictures.current;
  if (picture?.result) elbow.show(picture, { kMax: controls.kMax, minPsnr: controls.minPsnr, options: controls.options, colors });
}

function showFacts(picture) {
  const result = picture?.result;
  for (const button of document.querySelectorAll("#save, #copy-picture, [data-format]")) button.disabled = !result;
  const facts = result ? factsOf(picture, result) : {};
  for (const id of ["saving", "size", "k-out", "psnr", "wcss"]) $(id).textContent = facts[id] ?? "–";
  $("saving").classList.toggle("worse", Boolean(result) && result.answer.image.bytes > picture.file.size);
  $("saving-label").textContent = $("saving").classList.contains("worse") ? "Larger" : "Saved";
  if (!result) return;
  $("chip-before").lastElementChild.textContent = `${bytes(picture.file.size)} · ${plural(result.answer.input.unique_colors, "colour")}`;
  $("chip-after").hidden = false;
  $("chip-after").lastElementChild.textContent = `${facts["k-out"]} colours · ${bytes(result.answer.image.bytes)}`;
}

const factsOf = ({ file }, { answer }) => ({
  saving: change(file.size, answer.image.bytes),
  size: `${bytes(file.size)} → ${bytes(answer.image.bytes)}`,
  "k-out": number(answer.k),
  psnr: answer.quality === null ? decibels(answer.psnr_db) : `${decibels(answer.psnr_db)}, quality ${answer.quality.toFixed(0)}`,
  wcss: scientific(answer.wcss),
});

// Colours of one's own.

palette.addEventListener("lock", ({ detail: { hex } }) => {
  colors.locked = colors.locked.includes(hex) ? colors.locked.filter((other) => other !== hex) : [...colors.locked, hex];
  palette.show(pictures.current.result.answer.palette, colors.locked);
});

palette.addEventListener("replace", ({ detail: { hex, by } }) => {
  colors.locked = [...colors.locked.filter((other) => other !== hex), by];
  setFixed(shownColors().map((color) => (color === hex ? by : color)));
});

palette.addEventListener("remove", ({ detail: { hex } }) => {
  colors.locked = colors.locked.filter((other) => other !== hex);
  setFixed(shownColors().filter((color) => color !== hex));
});

const shownColors = () => pictures.current.result.answer.palette.map(hexOf);

elbow.addEventListener("take", ({ detail: k }) => controls.takeK(k));
elbow.addEventListener("k_max", ({ detail: kMax }) => controls.takeKMax(kMax));
elbow.addEventListener("error", ({ detail: error }) => notices.sayError(error));

// Taking it away.

const extension = (blob) => blob.type.split("/")[1];
const resultName = ({ name, result: { answer, blob } }) => (answer.kept_original ? name : `${stem(name)}-k${answer.k}.${extension(blob)}`);

$("save").addEventListener("click", () => save(pictures.current.result.blob, resultName(pictures.current)));
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

batch.addEventListener("error", ({ detail: error }) => notices.sayError(error));
batch.names = resultName;

openSample();
