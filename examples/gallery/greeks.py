"""Greeks off the grid.

The vols of a sample read at 100 days, which is no tenor of the grid, and at any strike; then the derivatives of Black's
formula at these vols.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.risk.book import CALL, Book, Underlying, greeks
from vae.runtime import SurfaceModel

model = SurfaceModel.load("demo/bundle")
surface = model.surfaces(model.sample(1, seed=7))
spot, tenor = 100.0, 100 / 365
strikes = np.linspace(82.0, 118.0, 73)
vol = surface.at(log_moneyness=np.log(strikes / spot), tenor=tenor)[0]
ones = np.ones_like(strikes)
book = Book(np.full(len(strikes), CALL), strikes, tenor * ones, ones)
found = greeks(book, Underlying(np.array([spot])), vol)

figure, panels = plt.subplots(1, 4, figsize=(9, 2.8), sharex=True)
shown = {
    "vol, %": 100 * vol,
    "delta": found.delta,
    "gamma, 1 / spot": found.gamma,
    "vega, per vol point": found.vega / 100,
}
for panel, (name, values) in zip(panels, shown.items(), strict=True):
    panel.plot(strikes, values)
    panel.set(title=name, xlabel="strike")
figure.savefig("greeks.svg")
