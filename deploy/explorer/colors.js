// Colors of the figures: those of the style sheet, which differ by theme, and the scale of the surface.

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Viridis at equal steps, by Smith and van der Walt (matplotlib, CC0).
const VIRIDIS = [
  [68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89],
  [180, 222, 44], [253, 231, 37],
];

/** The color of a share from 0 to 1, darker where `light` is below 1. */
export const viridis = (share, light = 1) => {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const left = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const mixed = VIRIDIS[left].map((one, i) => light * (one + (place - left) * (VIRIDIS[left + 1][i] - one)));
  return `rgb(${mixed.map(Math.round).join(",")})`;
};
