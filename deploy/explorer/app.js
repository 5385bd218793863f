// The page: what a person does becomes a surface, and the surface is shown.
import { TOLERANCE, violations } from "./arbitrage.js";
import { drawSmiles, drawSurface, nearest } from "./figures.js";
import { csv, logMoneyness, tenorTitle } from "./grid.js";
import { Model, TokenError } from "./model.js";
import * as quotesText from "./quotes.js";

const REACH = 4; // of a slider, standard deviations of the prior
const RELAXATION = 1.5; // seconds in which a walk forgets where it was
const BASIS_POINTS = 1e4;
const EXAMPLES = 12;

const at = (id) => document.getElementById(id);
const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

let model;
let shown; // {iv, z, std}: of a completed surface only has std
let quotes = null; // with which of them were used
let sliders = [];

const status = (text, bad = false) => {
  at("status").textContent = text;
  at("status").className = bad ? "bad" : "quiet";
};

/** Do something that may fail, and say so where it does. */
const attempt = async (action, tell = status) => {
  try {
    await action();
  } catch (error) {
    tell(error.message, true);
  }
};

const open = async (token) => {
  try {
    model = await Model.load(token, status);
  } catch (error) {
    status(error.message, true);
    at("entry").hidden = !(error instanceof TokenError);
    return;
  }
  at("entry").hidden = true;
  build();
  document.querySelector("main").hidden = false;
  await draw(1n);
  status("");
};

/** The controls that depend on the model. */
const build = () => {
  const { tenors, nodes } = model.grid;
  at("about").textContent = `version ${model.version}: ${model.latents} latents, ${tenors.length} tenors × ${nodes.length} nodes`;
  sliders = Array.from({ length: model.latents }, (_, i) => {
    const slider = make("input", { type: "range", id: `z${i + 1}`, min: -REACH, max: REACH, step: 0.01 });
    slider.addEventListener("input", () => {
      stopWalking();
      move((wanted ?? shown.z).with(i, Number(slider.value)));
    });
    return { slider, output: make("output", {}) };
  });
  at("latents").replaceChildren(...sliders.map(({ slider, output }) =>
    make("div", { className: "latent" }, make("label", { htmlFor: slider.id, textContent: slider.id }), slider, output)));
  at("conditions").replaceChildren(...model.conditions.map((name) =>
    make("div", { className: "condition" }, make("label", { htmlFor: `given-${name}`, textContent: name }),
      make("input", { type: "text", inputMode: "decimal", id: `given-${name}`, placeholder: "any" }))));
  at("tenor").max = tenors.length - 1;
  at("tenor").value = nearest(model.grid, 0.5);
};

/** Show a surface everywhere. */
const show = (surface) => {
  shown = surface;
  sliders.forEach(({ slider, output }, i) => {
    const reach = Math.max(REACH, Math.ceil(Math.abs(surface.z[i])));
    Object.assign(slider, { min: -reach, max: reach, value: surface.z[i] });
    output.textContent = surface.z[i].toFixed(2);
  });
  drawSurface(at("surface"), model.grid, surface.iv);
  showSmiles();
  showChecks();
};

const showSmiles = () => {
  const chosen = Number(at("tenor").value);
  at("tenor-name").textContent = tenorTitle(model.grid.tenors[chosen]);
  at("tenor").setAttribute("aria-valuetext", at("tenor-name").textContent);
  drawSmiles(at("smiles"), model.grid, shown, chosen, quotes);
};

const showChecks = () => {
  const found = violations(model.grid, shown.iv);
  const free = found && Object.entries(found).every(([kind, { size }]) => size <= TOLERANCE[kind]);
  at("verdict").textContent = free ? "free of static arbitrage" : found ? "not free of static arbitrage" : "no surface: vols or strikes out of order";
  at("verdict").className = free ? "good" : "bad";
  const line = ([kind, { size, tenor, k }]) => {
    const bad = size > TOLERANCE[kind];
    const where = size > 0 ? `${tenorTitle(tenor)}, k = ${k.toFixed(2)}` : "";
    return make("tr", { className: bad ? "bad" : "" }, ...[kind, where, size ? size.toExponential(1) : "none"].map((textContent) => make("td", { textContent })));
  };
  at("checks").querySelector("tbody").replaceChildren(...Object.entries(found ?? {}).map(line));
};

let wanted = null; // latents that were asked for while others were decoded: of several the last

/** Decode latents and show the surface, as often as the screen can. */
const move = async (z) => {
  const busy = wanted !== null;
  wanted = z;
  if (busy) return;
  await attempt(async () => {
    for (let next = z; ; next = wanted) {
      show(await model.decode(next));
      await new Promise(requestAnimationFrame);
      if (wanted === next) break;
    }
  });
  wanted = null;
};

const draw = async (seed) => {
  stopWalking();
  const given = model.conditions.map((name) => {
    const text = at(`given-${name}`).value.trim();
    if (text && !Number.isFinite(Number(text))) throw new Error(`${name} is "${text}", not a number`);
    return text ? Number(text) : NaN;
  });
  at("seed").value = seed;
  show(await model.draw(seed, given));
};

const sampleAgain = () => attempt(() => draw(BigInt(crypto.getRandomValues(new Uint32Array(1))[0])));

const drawSeed = () => attempt(async () => {
  const text = at("seed").value.trim();
  if (!/^\d{1,20}$/.test(text) || BigInt(text) >= 2n ** 64n) throw new Error(`the seed is "${text}"; allowed: whole numbers from 0 to 2^64 - 1`);
  await draw(BigInt(text));
  status("");
});

let walking = null; // a walk's own mark

const stopWalking = () => {
  walking = null;
  at("walk").setAttribute("aria-pressed", "false");
};

/** A random walk that is drawn back to the middle: an Ornstein-Uhlenbeck process, at rest N(0, I). */
const walk = async () => {
  if (walking) return stopWalking();
  const mark = (walking = {});
  at("walk").setAttribute("aria-pressed", "true");
  for (let before = performance.now(); walking === mark; ) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    const kept = Math.exp(-Math.min((now - before) / 1000, 0.1) / RELAXATION);
    before = now;
    if (walking === mark) await move(shown.z.map((z) => kept * z + Math.sqrt(1 - kept * kept) * normal()));
  }
};

/** A normal random number, by Box and Muller. */
const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

const fit = (text, bad = false) => {
  at("fit").textContent = text;
  at("fit").className = bad ? "bad" : "quiet";
};

const complete = () => attempt(async () => {
  stopWalking();
  const read = quotesText.parse(at("quotes").value);
  const found = await model.complete(read);
  const used = read.iv.map((_, i) => i).filter((i) => found.used[i]);
  if (!used.length) throw new Error("no quote is within reach of the grid");
  if (![...found.iv, ...found.std].every(Number.isFinite)) throw new Error("iv or weight is too large or too small: no finite surface goes with it");
  quotes = { ...read, used: found.used };
  const counts = model.grid.tenors.map((_, i) => used.filter((q) => nearest(model.grid, read.tenor[q]) === i).length);
  at("tenor").value = counts.indexOf(Math.max(...counts));
  show(found);
  const errors = used.map((i) => BASIS_POINTS * Math.abs(found.fitted[i] - read.iv[i]));
  const middle = BASIS_POINTS * Array.from(found.std).sort((a, b) => a - b)[found.std.length >> 1];
  fit(`${used.length} of ${read.iv.length} quotes used${used.length < read.iv.length ? ", the others are out of reach of the grid" : ""}; ` +
    `errors ${mean(errors).toFixed(1)} bp on average, ${Math.max(...errors).toFixed(1)} bp at most; median std of the surface ${middle.toFixed(1)} bp`);
}, fit);

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Quotes at some points of the surface that is shown, spread over the grid. */
const takeExample = () => {
  const k = logMoneyness(model.grid, shown.iv);
  const { tenors, nodes } = model.grid;
  const places = tenors.flatMap((_, i) => nodes.map((_, j) => ({ i, j, rank: Math.random() })));
  const spots = places.sort((a, b) => a.rank - b.rank).slice(0, EXAMPLES);
  at("quotes").value = quotesText.text({
    tenor: spots.map(({ i }) => tenors[i]),
    logMoneyness: spots.map(({ i, j }) => k[i][j]),
    iv: spots.map(({ i, j }) => shown.iv[i * nodes.length + j]),
  });
  return complete();
};

const clear = () => {
  at("quotes").value = "";
  quotes = null;
  fit("");
  showSmiles();
};

const download = () => {
  const url = URL.createObjectURL(new Blob([csv(model.grid, shown)], { type: "text/csv" }));
  make("a", { href: url, download: "surface.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url));
};

const reset = () => {
  stopWalking();
  return move(sliders.map(() => 0));
};

const buttons = { reset, walk, sample: sampleAgain, complete, example: takeExample, clear, download };
for (const [id, action] of Object.entries(buttons)) at(id).addEventListener("click", () => action());
at("draw").addEventListener("submit", (event) => {
  event.preventDefault();
  drawSeed();
});
at("tenor").addEventListener("input", showSmiles);
at("file").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  target.value = ""; // the same file can be chosen again
  if (!file) return;
  at("quotes").value = await file.text();
  await complete();
});
at("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  open(at("token").value);
});
const KEYS = { r: reset, w: walk, s: sampleAgain, d: download };
document.addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey, target }) => {
  const writes = target.matches("textarea, input:not([type='range'])");
  if (model && !writes && !ctrlKey && !metaKey && !altKey) KEYS[key.toLowerCase()]?.();
});

await open("");
