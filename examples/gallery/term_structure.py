"""The term structure of vols at the money.

Read off 10,000 samples at tenors that the grid does not have: the vols of half, and of nine out of ten surfaces.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.runtime import SurfaceModel

model = SurfaceModel.load("demo/bundle")
surfaces = model.surfaces(model.sample(10_000, seed=7))
months = np.linspace(0.5, 17.5, 60)
vols = 100 * surfaces.at(log_moneyness=0.0, tenor=months / 12)  # [10000, 60], %

figure, axes = plt.subplots()
for low, high, alpha in ((5, 95, 0.25), (25, 75, 0.4)):
    edges = np.percentile(vols, [low, high], axis=0)
    axes.fill_between(months, *edges, color="C0", alpha=alpha, linewidth=0, label=f"{high - low} % of samples")
axes.plot(months, np.median(vols, axis=0), color="C0", label="median")
axes.plot(months, vols[:8].T, color="C1", linewidth=1.0, label=["eight samples", *7 * ["_"]])
axes.set(xlabel="tenor, months", ylabel="vol at the money, %", ylim=(0, 50), xlim=(0, 18))
axes.legend(ncols=2, loc="lower right")
figure.savefig("term_structure.svg")
