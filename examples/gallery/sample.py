"""Surfaces drawn from the model.

Each surface is a draw from the law that the model learned. The same seed gives the same surfaces on every machine, and
row i depends on the seed and i alone, so that a large request can be split.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.runtime import SurfaceModel

model = SurfaceModel.load("demo/bundle")
surfaces = model.sample(4, seed=3)  # [4, tenor, node], decimal Black vols

months = 12 * model.grid.tenors
k = model.surfaces(surfaces).log_moneyness  # [tenor, node]: wider at long tenors
figure, panels = plt.subplots(1, 4, figsize=(9, 2.9), sharex=True, sharey=True)
for panel, surface in zip(panels, surfaces, strict=True):
    lines = panel.contourf(k, np.broadcast_to(months[:, None], k.shape), 100 * surface, levels=np.arange(12, 49, 2))
    panel.grid(visible=False)
    panel.set_xlabel("log-moneyness")
panels[0].set_ylabel("tenor, months")
figure.colorbar(lines, ax=panels, label="vol, %", ticks=range(15, 46, 10))
figure.savefig("sample.svg")
