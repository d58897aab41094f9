// Numbers and errors in words.

const count = new Intl.NumberFormat("en");

/** 1234567 -> "1,234,567". */
export const number = (value) => count.format(value);

/** A number of something, with its noun: "1 colour", "2 colours". */
export const plural = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

/** 123456 -> "123 kB"; powers of 1000, as file managers count. */
export function bytes(value) {
  if (value < 1000) return `${value} B`;
  const [scaled, unit] = value < 1e6 ? [value / 1e3, "kB"] : [value / 1e6, "MB"];
  return `${scaled < 100 ? scaled.toFixed(1) : Math.round(scaled)} ${unit}`;
}

/** How much smaller a file became: "−87 %", "+4 %". */
export function change(before, after) {
  if (after === before) return "0 %";
  const share = (100 * (after - before)) / before;
  const text = Math.abs(share) < 10 && Math.abs(share) >= 0.05 ? Math.abs(share).toFixed(1) : Math.round(Math.abs(share));
  return `${share > 0 ? "+" : "−"}${text} %`;
}

/** 0.0123 -> "1.2 %". */
export function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** 30.123 -> "30.1 dB"; no error at all has no PSNR. */
export const decibels = (value) => (value === null || value === undefined ? "exact" : `${value.toFixed(1)} dB`);

/** 123456789 -> "1.23 × 10⁸". */
export function scientific(value) {
  if (value < 1e4) return number(Math.round(value));
  const power = Math.floor(Math.log10(value));
  const raised = [...String(power)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");
  return `${(value / 10 ** power).toFixed(2)} × 10${raised}`;
}

/** "photo.jpg" -> "photo". */
export const stem = (name) => name.replace(/\.[^.]*$/, "") || "picture";

/** A word of a shell, quoted only where it has to be. */
export const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

const ADVICE = {
  "missing-image": "The file is empty: choose another.",
  "too-large": "Make the picture smaller, or raise max_body_bytes where the server runs.",
  "too-many-pixels": "Scale the picture down, or raise max_pixels where the server runs.",
  "unsupported-format": "Save it as one of these.",
  "corrupt-image": "Open it in another program and save it again, or choose another file.",
  "queue-full": "Wait a moment and try again.",
  "not-ready": "Wait a moment and try again.",
  "deadline-exceeded": "Try fewer colours or a smaller picture.",
  "bad-parameter": "Change that option, or reset them all.",
};

/** What happened and what to do about it. */
export function explain(error) {
  if (error.name === "Unreadable") return "The file cannot be read: it may be a folder, or have been moved or changed. Open it again.";
  if (error.name === "Stopped") return "Stopped.";
  if (error.name === "Unreachable") return "The server does not answer. See that it runs, then try again.";
  const advice = ADVICE[error.code];
  if (error.code === "missing-image") return advice; // its own words are for programs
  return advice && !error.message.includes(advice) ? `${error.message.replace(/[^.]$/, "$&.")} ${advice}` : error.message;
}
