// Quotes as a table: what the text says, and beside it how far the surface is off, or what is wrong in which cell.
import { placeOf, table } from "./quotes.js";
import { at, make, plain } from "./page.js";

const MOST = 200; // rows that are shown
const BASIS_POINTS = 1e4;

const show = (names, rows) => {
  at("quote-table").querySelector("thead").replaceChildren(make("tr", {}, ...names.map((textContent) => make("th", { textContent, scope: "col" }))));
  at("quote-table").querySelector("tbody").replaceChildren(...rows);
  at("quote-rows").hidden = rows.length === 0;
};

export const clearQuoteTable = () => show([], []);

/** The quotes of a completion, with the vol of the surface and the error of each; those farthest off of many. */
export const showErrors = (text, { iv, fitted, used, wild, rows: places }) => {
  const { names, cells } = table(text);
  const order = iv.map((_, i) => i);
  const far = (i) => (used[i] ? Math.abs(fitted[i] - iv[i]) : Infinity);
  if (order.length > MOST) order.sort((a, b) => far(b) - far(a));
  const rows = order.slice(0, MOST).map((i) => {
    const error = used[i] ? [plain(100 * fitted[i], 2), plain(BASIS_POINTS * (fitted[i] - iv[i]), 1)] : ["out of reach", ""];
    const className = used[i] && !wild?.[i] ? "" : "bad";
    return make("tr", { className }, ...[...error, ...names.map((_, j) => cells[places[i]][j] ?? "")].map((textContent) => make("td", { textContent })));
  });
  show(["surface, %", "off by, bp", ...names], rows);
};

/** The quotes around a wrong one, whose cell has the message beside it. */
export const showWrong = (text, error) => {
  if (!error.row || !error.column) return clearQuoteTable();
  const { names, cells } = table(text);
  const wrong = placeOf({ names, cells }, error.column);
  const first = Math.max(0, error.row - 3);
  const rows = cells.slice(first, error.row + 2).map((row, i) => {
    const own = first + i + 1 === error.row;
    const each = names.map((_, j) => {
      const cell = make("td", { textContent: row[j] ?? "" });
      if (own && j === wrong) {
        cell.className = "wrong";
        cell.append(make("span", { className: "why", textContent: error.message.replace(/^row \d+: \S+ /, "") }));
      }
      return cell;
    });
    return make("tr", { className: own ? "bad" : "" }, ...each);
  });
  return show(names, rows);
};
