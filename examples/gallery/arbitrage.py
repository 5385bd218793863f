"""Static arbitrage, and what noise does to it.

A surface is free of static arbitrage where no calendar, vertical or butterfly spread earns something for nothing. 1,000
samples, and the same with independent noise at every point: the share that is free, by the smallest profit that counts.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.runtime import SurfaceModel
from vae.surface import arbitrage

model = SurfaceModel.load("demo/bundle")
surfaces = model.sample(1000, seed=7)
normal = np.random.default_rng(7).standard_normal(surfaces.shape)
tolerances = np.logspace(-7, -2, 61)

figure, axes = plt.subplots()
for noise in (0, 3, 10, 30):  # bp of vol
    profit = arbitrage.violations(surfaces + 1e-4 * noise * normal, model.grid).profit
    free = [100 * (profit <= tolerance).mean() for tolerance in tolerances]
    axes.plot(tolerances, free, label=f"noise of {noise} bp" if noise else "samples")
axes.axvline(1e-6, color="C4", linestyle=":", label="tolerance of the report")
axes.set(xscale="log", xlabel="profit that counts, as a share of the forward", ylabel="surfaces that are free, %")
axes.legend()
figure.savefig("arbitrage.svg")
