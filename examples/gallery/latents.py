"""The effect of each latent.

The surface at the mean of the codes, and the same with one latent moved by two standard deviations to either side. A
smile at three months for each of the five latents.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.runtime import SurfaceModel

model = SurfaceModel.load("demo/bundle")
codes = model.draw(5000, seed=7).latents  # [5000, latent]
centre, spread = codes.mean(axis=0), codes.std(axis=0)
k = np.linspace(-0.2, 0.16, 61)
steps = (-2, -1, 0, 1, 2)

figure, panels = plt.subplots(1, model.latents, figsize=(9, 3.2), sharey=True, sharex=True)
for latent, panel in enumerate(panels):
    for step in steps:
        z = centre.copy()
        z[latent] += step * spread[latent]
        smile = model.surfaces(model.decode(z[None])).at(log_moneyness=k, tenor=0.25)[0]
        colour = "C0" if step < 0 else "C1" if step > 0 else "C2"
        panel.plot(k, 100 * smile, color=colour, alpha=1 - 0.25 * (abs(step) == 1), linewidth=1 + 0.5 * abs(step))
    panel.set(title=f"z{latent + 1}", xlabel="ln(K/F)", xticks=[-0.1, 0.1])
panels[0].set_ylabel("vol at three months, %")
lines = [panels[0].lines[place] for place in (0, 2, 4)]
figure.legend(lines, ["−2 standard deviations", "mean", "+2"], loc="outside lower center", ncols=3)
figure.savefig("latents.svg")
