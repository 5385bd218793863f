// Small helpers of all parts of the page.

export const at = (id) => document.getElementById(id);

export const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

/** A line of a table, the first cell its heading. */
export const line = (cells, className = "") =>
  make("tr", { className }, ...cells.map((textContent, i) => make(i ? "td" : "th", i ? { textContent } : { textContent, scope: "row" })));

/** Write a message into a line of the page, and say whether it is bad. */
export const say = (id) => (text, bad = false) => {
  at(id).textContent = text;
  at(id).className = bad ? "bad" : "quiet";
};

export const status = say("status");

/** Run an action, and show the message if it fails. */
export const attempt = async (action, report = status) => {
  try {
    await action();
  } catch (error) {
    report(error.message, true);
  }
};

/** A number with a sign, or a dash where there is none. */
export const signed = (value, digits = 2) =>
  Number.isFinite(value) ? `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}` : "–";

export const plain = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits).replace("-", "−") : "–");
