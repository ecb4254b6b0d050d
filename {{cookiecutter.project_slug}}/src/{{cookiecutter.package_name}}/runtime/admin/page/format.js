// Numbers and times as text. Three digits are enough to read from a distance.

export const NONE = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const timeOfDay = new Intl.DateTimeFormat("en", { timeStyle: "medium", hourCycle: "h23" });
const dateAndTime = new Intl.DateTimeFormat("en", {
  dateStyle: "medium",
  timeStyle: "medium",
  hourCycle: "h23",
});

/** 12,345 */
export const count = (value) => whole.format(value);

/** 0.4, 12.3, 1,234 */
export const rate = (value) => (value < 100 ? tenths : whole).format(value);

/** Seconds as 0.4 ms, 12 ms or 1.2 s. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const milliseconds = seconds * 1000;
  if (milliseconds < 9.95) return `${tenths.format(milliseconds)} ms`;
  if (milliseconds < 999.5) return `${whole.format(milliseconds)} ms`;
  return `${(seconds < 99.5 ? tenths : whole).format(seconds)} s`;
}

/** Bytes as 64 MiB. */
export function memory(bytes) {
  if (!bytes) return NONE;
  const mebibytes = bytes / 1024 ** 2;
  return mebibytes < 1024 ? `${mebibytes.toFixed(0)} MiB` : `${(mebibytes / 1024).toFixed(1)} GiB`;
}

/** Seconds as 42 s, 7 min, 3 h 20 min or 12 d 4 h. */
export function age(seconds) {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

/** Seconds since 1970 as 14:03:59, in the time zone of the browser. */
export const clock = (seconds) => timeOfDay.format(seconds * 1000);

/** The same with the date. */
export const date = (seconds) => dateAndTime.format(seconds * 1000);
