// A ZIP archive of files that are compressed already: stored as they are, names in UTF-8.
// Layout: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (end).

const VERSION = 20;
const UTF8_NAMES = 0x0800;
const LARGEST = 0xffffffff; // beyond it, ZIP64 would be needed

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

/** CRC-32 of bytes, as ZIP and PNG have it. */
export function crc32(file) {
  let crc = 0xffffffff;
  for (const byte of file) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/**
 * Put files into one archive.
 *
 * @param {{name: string, blob: Blob}[]} files  names distinct
 * @param {Date} date
 * @returns {Promise<Blob>}
 */
export async function zip(files, date = new Date()) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, blob } of files) {
    const file = new Uint8Array(await blob.arrayBuffer());
    const encoded = new TextEncoder().encode(name);
    const common = [2, VERSION, 2, UTF8_NAMES, 2, 0, 2, time(date), 2, day(date), 4, crc32(file), 4, file.length, 4, file.length, 2, encoded.length, 2, 0];
    const local = record([4, 0x04034b50, ...common]);
    parts.push(local, encoded, file);
    directory.push(record([4, 0x02014b50, 2, VERSION, ...common, 2, 0, 2, 0, 2, 0, 4, 0, 4, offset]), encoded);
    offset += local.length + encoded.length + file.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  if (offset + size > LARGEST) throw new RangeError("Together the pictures take more than 4 GB; save them one by one.");
  const end = record([4, 0x06054b50, 2, 0, 2, 0, 2, files.length, 2, files.length, 4, size, 4, offset, 2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Pairs of width in bytes and value, little-endian. */
function record(pairs) {
  const out = [];
  for (let i = 0; i < pairs.length; i += 2) {
    for (let byte = 0; byte < pairs[i]; byte += 1) out.push(Math.floor(pairs[i + 1] / 256 ** byte) & 0xff);
  }
  return Uint8Array.from(out);
}

const time = (date) => (date.getHours() << 11) | (date.getMinutes() << 5) | (date.getSeconds() >> 1);
const day = (date) => ((date.getFullYear() - 1980) << 9) | ((date.getMonth() + 1) << 5) | date.getDate();
