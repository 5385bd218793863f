// Which canonical column a column of a text is, by its name in the field and, where several share it, by its cells.
import { NAMES } from "./column-names.js";

const MOST_STRANGE = 0.05; // share of the cells that may be none of the column, as files have bad rows
const LONGEST_TENOR = 50; // years
const LABEL = /^(\d+(?:\.\d+)?)\s*(?:(d)(?:ays?)?|(w)(?:ks?|eeks?)?|(m)(?:os?|ths?|ons?|onths?)?|(y)(?:rs?|ears?)?)$/i;
const NIGHTS = { on: 1, "o/n": 1, tn: 2, "t/n": 2, sn: 3, "s/n": 3 };
const UNITS = { d: 1 / 365, w: 7 / 365, m: 1 / 12, y: 1 }; // years, as pipeline/tables/tenors.py has them
const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const CLOCK = /(?:[T ] *(?<hour>\d{1,2}):(?<minute>\d\d)(?::(?<second>\d\d(?:\.\d{1,9})?))? *(?<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?)?/.source;
const FORMS = [
  /(?<year>\d{4})(?<mark>[-/.]?)(?<month>\d\d)\k<mark>(?<day>\d\d)/,
  /(?<year>\d{4})(?<mark>[-/.])(?<month>\d{1,2})\k<mark>(?<day>\d{1,2})/,
  /(?<day>\d{1,2})[-/. ]?(?<name>[a-z]{3,9})[-/., ]*(?<year>\d{4})/,
  /(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? )?(?<name>[a-z]{3,9})[-. ]+(?<day>\d{1,2}),?[- ](?<year>\d{4})/,
].map(({ source }) => new RegExp(`^${source}${CLOCK}$`, "i"));

/** The years of a label such as 3M, 1Y or ON; null where it is none. */
export const yearsOf = (cell) => {
  if (cell.toLowerCase() in NIGHTS) return NIGHTS[cell.toLowerCase()] * UNITS.d;
  const match = LABEL.exec(cell);
  return match && Number(match[1]) * UNITS[match.slice(2).find(Boolean).toLowerCase()];
};

const partsOf = (cell) => FORMS.map((form) => form.exec(cell)?.groups).find(Boolean);

/** Days by which the clock of a time is ahead of UTC; null where it does not say it. */
export const offsetOf = (cell) => {
  const zone = partsOf(cell)?.zone;
  if (!zone) return null;
  const [hours, minutes] = [zone.slice(1, 3), zone.slice(-2)].map(Number);
  return /[+-]/.test(zone) ? (zone[0] === "-" ? -1 : 1) * (hours / 24 + minutes / 1440) : 0;
};

/** Days since 1970 of a date whose order shows, such as 2026-03-02 16:00, 20260302 or 2-Mar-2026; null where it is none. */
export const instantOf = (cell) => {
  const part = partsOf(cell);
  if (!part) return null;
  const month = part.month ? Number(part.month) : 1 + MONTHS.indexOf(part.name.slice(0, 3).toLowerCase());
  const time = Date.UTC(part.year, month - 1, part.day);
  const [hour, minute, second] = [part.hour, part.minute, part.second].map((one) => Number(one ?? 0));
  if (!(month >= 1 && month <= 12) || new Date(time).getUTCDate() !== Number(part.day)) return null;
  return hour < 24 && minute < 60 && second < 60 ? time / 86_400_000 + (hour * 3600 + minute * 60 + second) / 86_400 : null;
};

const plain = (name) => {
  const letters = name.toLowerCase().replaceAll("ß", "ss").replace(/[^\p{L}\p{N}]/gu, "");
  return letters.replace(/(.)(percent|pct)$/, "$1");
};
const inPercent = (name) => /\p{L}[\s_]*\(?%\)?$|[_ ]\(?(percent|pct)\)?$/iu.test(name.trim());

const rough = (cell) => Number(cell.replace(/\s*%$/, "").replace(/[ \u00a0\u202f'\u2019]/g, "").replace(",", ".") || NaN);
const mostly = (values, right) => values.length > 0 && values.filter(right).length >= (1 - MOST_STRANGE) * values.length;
const numbers = (right) => (cells) => mostly(cells.map(rough), (value) => Number.isFinite(value) && right(value));

const FITS = {
  date: (cells) => mostly(cells, (cell) => instantOf(cell) !== null),
  expiry: (cells) => mostly(cells, (cell) => instantOf(cell) !== null),
  tenor: (cells) => mostly(cells, (cell) => yearsOf(cell) !== null),
  tenor_years: numbers((value) => value >= 0 && value <= LONGEST_TENOR),
  log_moneyness: (cells) => numbers((value) => Math.abs(value) < 5)(cells) && Math.min(...cells.map(rough)) < 0.2,
  moneyness: numbers((value) => value > 0.2 && value < 5),
  strike: numbers((value) => value > 0),
  call_delta: numbers((value) => value > 0 && value < 1),
  delta: (cells) => mostly(cells, (cell) => /^\d+(\.\d+)?\s*D?\s*(C|P|CALL|PUT)$/i.test(cell)),
};
const OF_TEXT = ["expiry", "tenor"]; // a column of either name may be the other: dates and labels are told apart

/** Columns that a name may be, first the one that is named so; that alone where its cells are numbers. */
const candidates = (name) => {
  const own = plain(name);
  const found = Object.keys(NAMES).filter((one) => NAMES[one].includes(own));
  const exact = found.find((one) => one.replaceAll("_", "") === own);
  if (!exact) return found;
  return [exact, ...found.filter((one) => one !== exact && OF_TEXT.includes(exact) && OF_TEXT.includes(one))];
};

/**
 * {name, written, fits, inPercent} of each column of a table: its canonical name, or that of the text where it has none,
 * that of the text, and all canonical names that go with it and with the cells.
 */
export const columnsOf = (names, cells) =>
  names.map((written, place) => {
    const own = cells.map((row) => row[place] ?? "").filter(Boolean);
    const may = candidates(written);
    const fits = may.filter((one) => FITS[one]?.(own));
    return { name: fits[0] ?? may[0] ?? written, written, fits, inPercent: inPercent(written) };
  });
