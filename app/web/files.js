// Files in (drop, paste, pick, the sample) and out (save, copy).

const SAMPLE = "/static/sample/flower.jpg";

/** Call back with the pictures that are dropped, pasted or picked, and with those that are picked to be added. */
export function receiveFiles(onFiles, onMore) {
  const input = document.getElementById("files");
  let onPicked = onFiles;
  const veil = document.getElementById("drop");
  const give = (list, take = onFiles) => {
    const files = [...(list ?? [])];
    if (files.length) take(files);
  };
  for (const [id, take] of [["choose", onFiles], ["add", onMore]])
    document.getElementById(id).addEventListener("click", () => {
      onPicked = take;
      input.click();
    });
  input.addEventListener("change", () => {
    give(input.files, onPicked);
    input.value = ""; // so that the same file can be picked again
  });
  document.addEventListener("paste", (event) => give(event.clipboardData?.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    veil.hidden = !event.dataTransfer?.types.includes("Files");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    veil.hidden = true;
    give(event.dataTransfer?.files);
  });
}

/** The built-in picture, as a PNG of its pixels: what a palette picture is measured against. */
export async function loadSample() {
  const blob = await pngOf(await createImageBitmap(await (await fetch(SAMPLE)).blob()));
  return new File([blob], "flower.png", { type: "image/png" });
}

/** Hand a file to the browser's downloads. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Put text on the clipboard, on insecure origins too; says whether it worked. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = Object.assign(document.createElement("textarea"), { value: text });
    const focused = document.activeElement;
    document.body.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    focused?.focus();
    return copied;
  }
}

/** The pixels of an image on the page as a PNG. */
function pngOf(image) {
  const [width, height] = [image.naturalWidth ?? image.width, image.naturalHeight ?? image.height];
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage(image, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Put an image on the clipboard, as the one format all browsers take; says whether it worked. */
export async function copyPicture(image) {
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": pngOf(image) })]);
    return true;
  } catch {
    return false;
  }
}
