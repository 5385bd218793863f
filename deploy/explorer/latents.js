// The sliders of the latents, with what each does in words and in a strip of smiles from -2 to 2.
import { color } from "./colors.js";
import { effects, inWords } from "./effects.js";
import { reader } from "./grid.js";
import { at, make } from "./page.js";
import { along, values } from "./quantities.js";
import { range } from "./ticks.js";

const RANGE = 4; // standard deviations of the prior on each side of 0
const STRIP = [-2, -1, 0, 1, 2];
const [WIDTH, HEIGHT] = [44, 30]; // pixels of a picture in the strip

let sliders = [];

/** Create the sliders; a moved one calls `onMove` with its place and value. */
export const buildLatents = (count, onMove) => {
  sliders = Array.from({ length: count }, (_, i) => {
    const slider = make("input", { type: "range", id: `z${i + 1}`, min: -RANGE, max: RANGE, step: 0.01 });
    slider.setAttribute("aria-describedby", `z${i + 1}-does`);
    slider.addEventListener("input", () => onMove(i, Number(slider.value)));
    const does = make("p", { id: `z${i + 1}-does`, className: "does quiet" });
    return { slider, does, output: make("output", {}), strip: make("div", { className: "strip" }) };
  });
  at("latents").replaceChildren(...sliders.map(({ slider, output, does, strip }) =>
    make("div", { className: "latent" }, make("label", { htmlFor: slider.id, textContent: slider.id }), slider, output, does, strip)));
};

export const showLatents = (z) =>
  sliders.forEach(({ slider, output }, i) => {
    const reach = Math.max(RANGE, Math.ceil(Math.abs(z[i])));
    Object.assign(slider, { min: -reach, max: reach, value: z[i] });
    output.textContent = z[i].toFixed(2);
  });

/** Say and draw what each latent does at the middle of the prior. */
export const describeLatents = async (model) => {
  for (const [i, { does, strip }] of sliders.entries()) {
    const surfaces = [];
    for (const value of STRIP) surfaces.push((await model.decode(sliders.map((_, j) => (j === i ? value : 0)))).iv);
    does.textContent = `up: ${inWords(effects(model.grid, surfaces[1], surfaces[3]))}`;
    const smiles = surfaces.map((iv) => reader(model.grid, iv)(model.grid.tenors[model.grid.tenors.length >> 1]));
    const curves = smiles.map((one) => (one ? values("vol", one, along(one, 20)) : []));
    const scale = range(curves.flat());
    strip.replaceChildren(...STRIP.map((value, j) => picture(model, i, value, curves[j], scale)));
  }
};

/** A button with a small smile, which moves the latent there. */
const picture = (model, i, value, curve, [low, high]) => {
  const button = make("button", { type: "button", title: `z${i + 1} = ${value}` });
  button.setAttribute("aria-label", `set z${i + 1} to ${value}`);
  const canvas = make("canvas", { width: 2 * WIDTH, height: 2 * HEIGHT });
  const pen = canvas.getContext("2d");
  pen.strokeStyle = color("blue");
  pen.lineWidth = 3;
  pen.beginPath();
  curve.forEach((vol, j) => pen.lineTo((2 * WIDTH * j) / (curve.length - 1), 2 * (HEIGHT - 4) * (1 - (vol - low) / (high - low)) + 4));
  pen.stroke();
  button.append(canvas);
  button.addEventListener("click", () => {
    sliders[i].slider.value = value;
    sliders[i].slider.dispatchEvent(new Event("input"));
  });
  return button;
};
