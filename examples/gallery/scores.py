"""Which surfaces are odd, and where.

A score says how likely a surface is, where it lies among held-out surfaces, and which of its points are odd given all
others. Here 400 samples with the noise of quotes, 1 bp, and ten of them with one point moved by 20 bp.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.runtime import SurfaceModel

model = SurfaceModel.load("demo/bundle")
surfaces = model.sample(400, seed=7, noise=True)
moved = np.arange(20, 400, 40)
surfaces[moved, 3, 6] += 0.0020  # three months, near the forward
scores = model.score(surfaces)

figure, axes = plt.subplots()
plain = np.setdiff1d(np.arange(400), moved)
axes.plot(plain, np.abs(scores.largest_error[plain]), ".", label="samples")
axes.plot(moved, np.abs(scores.largest_error[moved]), "X", color="C1", markersize=9, label="one point moved by 20 bp")
axes.set(xlabel="surface", ylabel="largest error of a point,\nin its standard deviations", ylim=(0, None))
axes.legend(loc="center right")
figure.savefig("scores.svg")
found = sum((scores.oddest[moved] == (3, 6)).all(axis=1))
print(f"{found} of {len(moved)} moved points named; odd: {scores.odd[moved].mean():.0%} of those surfaces")
print(f"odd among the others: {scores.odd[plain].mean():.1%}")
