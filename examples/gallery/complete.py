"""A surface from five quotes.

Five vols at three tenors make a whole surface, with a standard deviation at each point that holds the noise of a quote:
nine of ten quotes lie within 1.645 of it. The bands are narrow at the quotes and widen where nobody quotes.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.runtime import SurfaceModel

model = SurfaceModel.load("demo/bundle")
days = np.array([30, 30, 182, 182, 365])
k = np.array([-0.1, 0.0, -0.1, 0.05, 0.0])
vols = np.array([0.216, 0.173, 0.208, 0.164, 0.1855])
found = model.complete(vols, tenor=days / 365, log_moneyness=k)

nodes = model.surfaces(found.iv[None]).log_moneyness
figure, panels = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True)
for panel, shown, name in zip(panels, (30, 182, 365), ("one month", "six months", "one year"), strict=True):
    row = np.abs(365 * model.grid.tenors - shown).argmin()
    low, high = 100 * (found.iv[row] - 1.645 * found.std[row]), 100 * (found.iv[row] + 1.645 * found.std[row])
    panel.fill_between(nodes[row], low, high, color="C0", alpha=0.3, linewidth=0, label="90 % interval")
    panel.plot(nodes[row], 100 * found.iv[row], label="completion")
    panel.plot(k[days == shown], 100 * vols[days == shown], "o", color="C1", label="quotes")
    panel.set(title=name, xlabel="log-moneyness")
panels[0].set_ylabel("vol, %")
panels[0].legend()
figure.savefig("complete.svg")
print(found)
