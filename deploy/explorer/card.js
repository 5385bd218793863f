// The model card: the Markdown that pipeline/report/model_card.py writes, as elements of the page.
import { make } from "./page.js";

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*/; // code and bold

/** Text with code and bold as nodes. */
const inline = (text) => {
  const found = INLINE.exec(text);
  if (!found) return [text];
  const [whole, code, bold] = found;
  const marked = make(code === undefined ? "strong" : "code", { textContent: code ?? bold });
  return [text.slice(0, found.index), marked, ...inline(text.slice(found.index + whole.length))];
};

const cells = (row) => row.replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

/** A table that scrolls by itself: its first row names the columns, the second draws a line. */
const table = ([head, , ...rows]) => {
  const names = cells(head).map((name) => make("th", { scope: "col" }, ...inline(name)));
  const lines = rows.map((row) => make("tr", {}, ...cells(row).map((cell, i) => make(i ? "td" : "th", i ? {} : { scope: "row" }, ...inline(cell)))));
  const found = make("table", {}, make("thead", {}, make("tr", {}, ...names)), make("tbody", {}, ...lines));
  return make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Figures" }, found);
};

/** A paragraph, heading, list, table or program. */
const block = (text) => {
  const lines = text.split("\n");
  const heading = /^(#+) (.*)$/.exec(text);
  if (heading) return make(`h${heading[1].length + 1}`, {}, ...inline(heading[2])); // the page's own title is the first
  if (text.startsWith("```")) return make("pre", { textContent: lines.slice(1, -1).join("\n"), tabIndex: 0 });
  if (text.startsWith("|")) return table(lines);
  if (text.startsWith("- ")) return make("ul", {}, ...text.slice(2).split("\n- ").map((item) => make("li", {}, ...inline(item))));
  return make("p", {}, ...inline(text));
};

/** The elements of a card, without the metadata at its head. */
export const rendered = (markdown) => {
  const text = markdown.replace(/^---\n.*?\n---\n/s, "");
  const parts = text.match(/```.*?\n```|[^\n]+(?:\n(?!```)[^\n]+)*/gs) ?? [];
  return parts.map((part) => block(part.trim()));
};
