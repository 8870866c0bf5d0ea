// Values as people read them. All times are UTC, as in the store.

const UNPRINTED = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;

/** Other people's text with everything that is not printed written out (`\x1b`, `\u202e`), as in the terminal. */
export function visible(text) {
  return String(text).replace(UNPRINTED, (char) => {
    const code = char.codePointAt(0);
    const [letter, width] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
    return `\\${letter}${code.toString(16).padStart(width, "0")}`;
  });
}

export const NONE = "–";

const WHOLE = new Intl.NumberFormat("en-US");
const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

/** A count in full: `1,234,567`. */
export const count = (value) => (value === null || value === undefined ? NONE : WHOLE.format(value));

/** A count in a few characters: `1.2M`. */
export const short = (value) => (value === null || value === undefined ? NONE : SHORT.format(value));

/** `1 host`, `2 hosts`. */
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** Bytes with a binary unit: `1.5 MiB`. */
export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  let rest = value;
  for (; rest >= 1024 && at < units.length - 1; at += 1) rest /= 1024;
  return `${at === 0 || rest >= 100 ? Math.round(rest) : rest.toFixed(1)} ${units[at]}`;
}

/** A duration in milliseconds: `3.2 ms`, `1.4 s`. */
export function duration(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 10) return `${Math.round(ms * 10) / 10} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${(ms / 60_000).toFixed(1)} min`;
}

/** `12.3 %` of a whole; a dash where there is no whole. */
export function share(part, whole) {
  if (!whole) return NONE;
  const percent = (100 * part) / whole;
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  return `${percent.toFixed(percent === 100 || percent === 0 ? 0 : 1)} %`;
}

/** `2026-11-24 09:05:01` in UTC. */
export const time = (text) => (text ? text.replace("T", " ").replace(/\.\d+Z$|Z$/, "") : NONE);

/** The same with milliseconds. */
export const moment = (text) => (text ? text.replace("T", " ").replace(/Z$/, "") : NONE);

/** `09:05` within a day, `24 Nov 09:05` or `24 Nov` for wider steps. */
export function tick(text, stepSeconds, spanSeconds) {
  const moment = new Date(text);
  const day = moment.toLocaleString("en-GB", { timeZone: "UTC", day: "numeric", month: "short" });
  if (stepSeconds >= 86_400) return day;
  const hour = moment.toISOString().slice(11, 16);
  return spanSeconds > 86_400 ? `${day} ${hour}` : hour;
}

/** How long ago, in words: `3 min ago`. `now` and `text` are RFC 3339 times. */
export function ago(text, now) {
  if (!text) return NONE;
  const seconds = Math.max(0, (new Date(now) - new Date(text)) / 1000);
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86_400)} days ago`;
}
