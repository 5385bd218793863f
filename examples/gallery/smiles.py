"""Smiles, and the spread of their tails.

Smiles of 5,000 samples at three months: the median, and the range of nine out of ten. Between its nodes a smile is the
spline of its total variance that the completer and the explorer read too.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.runtime import SurfaceModel

model = SurfaceModel.load("demo/bundle")
surfaces = model.surfaces(model.sample(5000, seed=7))
k = np.linspace(-0.22, 0.18, 41)
smiles = 100 * surfaces.at(log_moneyness=k, tenor=91 / 365)  # [5000, 41], %

figure, axes = plt.subplots()
for low, high, alpha in ((0.5, 99.5, 0.15), (5, 95, 0.25), (25, 75, 0.35)):
    edges = np.percentile(smiles, [low, high], axis=0)
    axes.fill_between(k, *edges, color="C0", alpha=alpha, linewidth=0, label=f"{high - low:g} % of samples")
axes.plot(k, np.median(smiles, axis=0), color="C0", label="median")
axes.plot(k, smiles[:6].T, color="C1", linewidth=1.0, label=["six samples", *5 * ["_"]])
axes.set(xlabel="log-moneyness ln(K/F)", ylabel="vol at three months, %", ylim=(0, 75), xlim=(k[0], k[-1]))
axes.legend(ncols=2)
figure.savefig("smiles.svg")
