"""A wrong quote, named.

One of 25 quotes is five points too high. No surface fits it with the others, so the completion says which it is, leaves
it out, and warns. A quote that the model cannot explain is never bent into the surface in silence.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.runtime import SurfaceModel

model = SurfaceModel.load("demo/bundle")
quotes = np.genfromtxt("demo/quotes/wrong_quote.csv", delimiter=",", names=True)
days, k, vols = quotes["days"], quotes["log_moneyness"], quotes["iv"]
found = model.complete(vols, tenor=days / 365, log_moneyness=k)
fitted = model.surfaces(found.iv[None]).at(log_moneyness=k, tenor=days / 365)[0]

figure, axes = plt.subplots()
good = ~found.wild
axes.axhline(0.0, color="C0", linewidth=1.0)
axes.plot(np.flatnonzero(good), 1e4 * (vols - fitted)[good], "o", label="quotes that fit")
axes.plot(np.flatnonzero(found.wild), 1e4 * (vols - fitted)[found.wild], "X", color="C1", markersize=10, label="wild")
for row in np.flatnonzero(found.wild):
    axes.annotate(
        f"{days[row]:.0f} days, ln(K/F) = {k[row]:g}", (row, 1e4 * (vols - fitted)[row]), (-12, -3),
        textcoords="offset points", ha="right",
    )  # fmt: skip
axes.set(xlabel="row of the file", ylabel="quote less surface, bp of vol", yscale="symlog")
axes.set_yticks([-10, -1, 0, 1, 10, 100, 1000], ["−10", "−1", "0", "1", "10", "100", "1,000"])
axes.legend(loc="center right")
axes.set_ylim(-10, 2000)
figure.savefig("wild_quote.svg")
print(found.warning)
