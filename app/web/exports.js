// The palette as a file for other programs: as the server writes it, and to the last bit what is shown.
import { channels, hexOf } from "./api.js";
import { crc32 } from "./zip.js";

const COLUMNS = 16; // of the palette as a picture
const SQUARE = 32;
const ACT_ENTRIES = 256;

/** Write entries of an answer, in their order, as "png", "css", "gpl", "act" or "hex". */
export async function writePalette(entries, format) {
  const colors = entries.map((entry) => ({ hex: hexOf(entry), rgb: channels(entry.hex) }));
  const [type, write] = WRITERS[format];
  return new Blob([await write(colors)], { type });
}

const WRITERS = {
  png: ["image/png", drawSquares],
  css: ["text/css", (colors) => `:root {\n${colors.map(({ hex }, i) => `  --color-${i + 1}: ${hex};\n`).join("")}}\n`],
  hex: ["text/plain", (colors) => colors.map(({ hex }) => `${hex.slice(1)}\n`).join("")],
  gpl: ["text/plain", (colors) => `GIMP Palette\nName: gpu-kmeans\nColumns: ${COLUMNS}\n#\n${colors.map(gplRow).join("")}`],
  act: ["application/octet-stream", writeAct],
};

const gplRow = ({ hex, rgb }) => `${rgb.map((level) => String(level).padStart(3)).join(" ")}\t${hex.slice(0, 7)}\n`;

/** Adobe's colour table: 256 triples, how many count, which one is transparent (none). */
function writeAct(colors) {
  const file = new Uint8Array(3 * ACT_ENTRIES + 4);
  file.set(colors.flatMap(({ rgb }) => rgb));
  file.set([colors.length >> 8, colors.length & 255, 255, 255], 3 * ACT_ENTRIES);
  return file;
}

/** A PNG of squares with this very palette: a canvas would round what is translucent. */
async function drawSquares(colors) {
  const [width, height] = [Math.min(COLUMNS, colors.length) * SQUARE, Math.ceil(colors.length / COLUMNS) * SQUARE];
  const isFilled = colors.length % COLUMNS === 0 || colors.length < COLUMNS;
  const shown = isFilled ? colors : [...colors, { hex: "#00000000", rgb: [0, 0, 0] }]; // what is left of the last row
  const alphas = shown.map(({ hex }) => parseInt(hex.slice(7) || "ff", 16));
  const lines = new Uint8Array(height * (width + 1)); // each begins with its filter, none
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) lines[y * (width + 1) + x + 1] = Math.min(Math.floor(y / SQUARE) * COLUMNS + Math.floor(x / SQUARE), shown.length - 1);
  }
  const packed = new Response(new Blob([lines]).stream().pipeThrough(new CompressionStream("deflate")));
  return new Blob([
    Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10),
    chunk("IHDR", [...word(width), ...word(height), 8, 3, 0, 0, 0]),
    chunk("PLTE", shown.flatMap(({ rgb }) => rgb)),
    ...(alphas.some((alpha) => alpha < 255) ? [chunk("tRNS", alphas)] : []),
    chunk("IDAT", new Uint8Array(await packed.arrayBuffer())),
    chunk("IEND", []),
  ]);
}

function chunk(name, content) {
  const named = Uint8Array.from([...name].map((letter) => letter.charCodeAt(0)).concat([...content]));
  return Uint8Array.from([...word(content.length), ...named, ...word(crc32(named))]);
}

const word = (value) => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255);
