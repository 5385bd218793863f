// Saves what is shown: the surface as CSV, and both figures as one PNG.
import { color } from "./colors.js";
import { at, make } from "./page.js";

const [MARGIN, SCALE] = [16, 2];

export const saveAs = (name, blob) => {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
};

/** The two figures side by side, with a line of text, as PNG. */
export const picture = async (title) => {
  const [surface, smiles] = [at("surface").querySelector("canvas"), at("smiles").querySelector("svg")];
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(smiles))}`;
  await image.decode();
  const [left, right] = [at("surface"), at("smiles")].map((one) => ({ width: one.clientWidth, height: one.clientHeight }));
  const [width, height] = [left.width + right.width + 3 * MARGIN, Math.max(left.height, right.height) + 3 * MARGIN + 16];
  const canvas = make("canvas", { width: width * SCALE, height: height * SCALE });
  const pen = canvas.getContext("2d");
  pen.scale(SCALE, SCALE);
  pen.fillStyle = color("paper");
  pen.fillRect(0, 0, width, height);
  pen.fillStyle = color("ink");
  pen.font = "14px system-ui, sans-serif";
  pen.fillText(title, MARGIN, MARGIN + 10);
  pen.drawImage(surface, MARGIN, 2 * MARGIN + 16, left.width, left.height);
  pen.drawImage(image, left.width + 2 * MARGIN, 2 * MARGIN + 16, right.width, right.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
};
