// A surface in three dimensions on a canvas: faces from the farthest to the nearest, turned by mouse or arrow keys.
import { color, viridis } from "./colors.js";
import { range, ticks } from "./ticks.js";

const START = { yaw: -0.75, pitch: 0.45 };
const TURN = 0.1; // radians of a key
const FLAT = 0.62; // height of the box over its width
const reliefs = new WeakMap();
const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => paintRelief(target)));

/**
 * Show a mesh [row][point] of {x, y, z} in an element; rows may have gaps, where z is NaN. The axes are
 * {title, reversed} and, for y, {title, marks: [{at, text}]}. `behind` is {mesh, tone} of another one, drawn as lines, and `dots` are points.
 */
export const drawRelief = (element, mesh, axes, behind = null, dots = []) => {
  const before = reliefs.get(element);
  if (!before) start(element);
  reliefs.set(element, { view: before?.view ?? { ...START }, mesh, axes, behind, dots });
  paintRelief(element);
};

const start = (element) => {
  element.append(document.createElement("canvas"));
  resized.observe(element);
  let held = null;
  element.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, y: event.clientY };
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointerup", () => (held = null));
  element.addEventListener("pointercancel", () => (held = null));
  element.addEventListener("pointermove", (event) => {
    if (!held) return;
    turn(element, (event.clientX - held.x) * 0.01, (event.clientY - held.y) * 0.01);
    held = { x: event.clientX, y: event.clientY };
  });
  const KEYS = { ArrowLeft: [-TURN, 0], ArrowRight: [TURN, 0], ArrowUp: [0, -TURN], ArrowDown: [0, TURN] };
  element.addEventListener("keydown", (event) => {
    if (!KEYS[event.key]) return;
    event.preventDefault();
    turn(element, ...KEYS[event.key]);
  });
};

/** The angles in radians from which a relief is seen, [yaw, pitch]; undefined before it is drawn. */
export const seenFrom = (element) => {
  const view = reliefs.get(element)?.view;
  return view && [view.yaw, view.pitch];
};

/** Turn a relief to angles. */
export const turnTo = (element, [yaw, pitch]) => {
  const [own, up] = seenFrom(element);
  turn(element, yaw - own, pitch - up);
};

const turn = (element, yaw, pitch) => {
  const { view } = reliefs.get(element);
  view.yaw += yaw;
  view.pitch = Math.min(Math.max(view.pitch + pitch, 0), 1.5);
  element.dispatchEvent(new Event("turned"));
  paintRelief(element);
};

/** Paint what an element shows again, in the colors of now. */
export const paintRelief = (element) => {
  const relief = reliefs.get(element);
  const [width, height] = [element.clientWidth, element.clientHeight];
  if (!relief || !width || !height) return;
  const canvas = element.querySelector("canvas");
  const scale = window.devicePixelRatio || 1;
  Object.assign(canvas, { width: width * scale, height: height * scale });
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "12px system-ui, sans-serif";
  const { mesh, axes, behind, dots, view } = relief;
  const all = [...mesh.flat(), ...(behind?.mesh ?? []).flat()];
  const [xs, ys, zs] = ["x", "y", "z"].map((name) => range([...all, ...dots].map((one) => one[name])));
  const share = (value, [low, high]) => (2 * (value - low)) / (high - low || 1) - 1;
  const size = Math.min(width / 4.1, height / 2.6);
  const [cosine, sine, up, forward] = [Math.cos(view.yaw), Math.sin(view.yaw), Math.cos(view.pitch), Math.sin(view.pitch)];
  /** Of a place in the box, from -1 to 1 each way: pixels, and how far it is. */
  const project = (x, y, z) => {
    const [right, away] = [x * cosine - y * sine, x * sine + y * cosine];
    return { x: width / 2 + size * right, y: height * 0.49 - size * (FLAT * z * up + away * forward), far: away * up - FLAT * z * forward };
  };
  const place = ({ x, y, z }) => project((axes.x.reversed ? -1 : 1) * share(x, xs), share(y, ys), share(z, zs));
  box(pen, project, { xs, ys, zs, axes, share });
  const faces = [];
  const at = mesh.map((row) => row.map(place));
  for (let i = 0; i + 1 < mesh.length; i++) {
    for (let j = 0; j + 1 < mesh[i].length; j++) {
      const corners = [at[i][j], at[i][j + 1], at[i + 1][j + 1], at[i + 1][j]];
      const z = (mesh[i][j].z + mesh[i][j + 1].z + mesh[i + 1][j + 1].z + mesh[i + 1][j].z) / 4;
      if (Number.isFinite(z)) faces.push({ corners, z, far: corners.reduce((sum, one) => sum + one.far, 0), edge: mesh[i][j].own });
    }
  }
  faces.sort((a, b) => b.far - a.far);
  for (const { corners, z, edge } of faces) {
    pen.fillStyle = pen.strokeStyle = viridis((z - zs[0]) / (zs[1] - zs[0] || 1));
    pen.lineWidth = 0.8;
    trace(pen, corners, true);
    pen.fill();
    pen.stroke();
    if (!edge) continue;
    pen.strokeStyle = "rgba(255,255,255,.35)";
    trace(pen, corners.slice(0, 2), false);
    pen.stroke();
  }
  if (behind) pen.strokeStyle = color(behind.tone);
  pen.lineWidth = 1.5;
  for (const row of behind?.mesh ?? []) {
    if (!row[0]?.own) continue;
    trace(pen, row.filter(({ z }) => Number.isFinite(z)).map(place), false);
    pen.stroke();
  }
  for (const dot of dots.filter(({ z }) => Number.isFinite(z))) {
    const { x, y } = place(dot);
    pen.fillStyle = color(dot.tone);
    pen.beginPath();
    pen.arc(x, y, 3, 0, 2 * Math.PI);
    pen.fill();
  }
};

const trace = (pen, points, closed) => {
  pen.beginPath();
  points.forEach(({ x, y }, i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  if (closed) pen.closePath();
};

/** The floor of the box, its farther walls, and numbers along its nearer edges. */
const box = (pen, project, { xs, ys, zs, axes, share }) => {
  const flip = axes.x.reversed ? -1 : 1;
  const nearX = project(1, 0, -1).far < project(-1, 0, -1).far ? 1 : -1;
  const nearY = project(0, 1, -1).far < project(0, -1, -1).far ? 1 : -1;
  const marks = {
    x: ticks(...xs, 8).map((value) => ({ at: flip * share(value, xs), text: String(value) })),
    y: axes.y.marks.map(({ at, text }) => ({ at: share(at, ys), text })),
    z: ticks(...zs, 6).map((value) => ({ at: share(value, zs), text: String(value) })),
  };
  const line = (from, to) => {
    trace(pen, [project(...from), project(...to)], false);
    pen.stroke();
  };
  pen.strokeStyle = color("line");
  pen.lineWidth = 1;
  for (const { at } of marks.x) line([at, -1, -1], [at, 1, -1]), line([at, -nearY, -1], [at, -nearY, 1]);
  for (const { at } of marks.y) line([-1, at, -1], [1, at, -1]), line([-nearX, at, -1], [-nearX, at, 1]);
  for (const { at } of marks.z) line([-1, -nearY, at], [1, -nearY, at]), line([-nearX, -1, at], [-nearX, 1, at]);
  pen.fillStyle = color("quiet");
  const text = (words, place, shift = [0, 0]) => {
    const { x, y } = project(...place);
    const [wide, end] = [pen.measureText(words).width, x + shift[0]];
    const start = end < project(0, 0, 0).x ? end - wide : end;
    pen.fillText(words, Math.max(0, Math.min(start, pen.canvas.clientWidth - wide)), y + shift[1]); // whole on a phone too
  };
  let last = null; // place of the last name of a tenor, as near ones would cover each other
  for (const { at, text: words } of marks.x) text(words, [at, nearY * 1.08, -1], [0, 8]);
  for (const { at, text: words } of marks.y) {
    const here = project(nearX, at, -1);
    if (last && Math.abs(here.y - last.y) < 13 && Math.abs(here.x - last.x) < 48) continue;
    last = here;
    text(words, [nearX * 1.08, at, -1], [0, 8]);
  }
  const corner = project(nearX, -nearY, 0).x < project(-nearX, nearY, 0).x ? [nearX, -nearY] : [-nearX, nearY];
  for (const { at, text: words } of marks.z) text(words, [...corner.map((one) => one * 1.04), at], [-4, 4]);
  text(axes.x.title, [0, nearY * 1.08, -1], [project(0, nearY, 0).x < project(0, 0, 0).x ? -30 : 30, 30]);
  text(axes.y.title, [nearX * 1.08, 0, -1], [project(nearX, 0, 0).x < project(0, 0, 0).x ? -36 : 36, 30]);
  pen.fillText(axes.z.title, 4, 14);
};
