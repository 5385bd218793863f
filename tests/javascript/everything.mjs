// All that the explorer reads from one smile: its quantities, its axes and its marks.
import { AXES, coordinates } from "../../deploy/explorer/axes.js";
import { callPrice } from "../../deploy/explorer/black.js";
import { reader } from "../../deploy/explorer/grid.js";
import { marks } from "../../deploy/explorer/marks.js";
import { QUANTITIES, values } from "../../deploy/explorer/quantities.js";

const FORWARD = 250;

export const everything = (grid, iv, tenor, points) => {
  const smile = reader(grid, iv)(tenor);
  return {
    ...Object.fromEntries(Object.keys(QUANTITIES).map((name) => [name, values(name, smile, points)])),
    ...Object.fromEntries(Object.keys(AXES).map((name) => [name, coordinates(name, smile, points, FORWARD)])),
    ...marks(smile),
    price: points.map((k) => callPrice(smile.at(k)[0], k)),
  };
};
