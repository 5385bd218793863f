"""Scenarios of the next twenty days, as fans.

A model of dated data has a law of motion: from its last date, or from the state that quotes lead to, it draws paths of
surfaces together with the return of the underlying. The model of this page learned from the 500 days of a simulated
Heston path ([examples/dated](../../docs/tutorials/scenarios.md)); bands hold 50, 90 and 99 % of 2,000 paths.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.runtime import SurfaceModel

model = SurfaceModel.load("examples/dated")
paths = model.scenarios(days=20, n=2000, seed=7)
at_the_money = 100 * paths.iv[..., np.abs(model.grid.nodes).argmin()]  # [path, day, tenor], %
today = 100 * model.state.iv[:, np.abs(model.grid.nodes).argmin()]
days = np.arange(21)

figure, panels = plt.subplots(1, 3, figsize=(9, 3.2))
shown = {"vol at one month, %": 1, "vol at one year, %": 5, "spot, % of today": None}
for panel, (name, tenor) in zip(panels, shown.items(), strict=True):
    moves = 100 * np.exp(paths.log_return) if tenor is None else at_the_money[..., tenor]
    values = np.column_stack([np.full(len(moves), 100.0 if tenor is None else today[tenor]), moves])
    for low, high, alpha in ((0.5, 99.5, 0.15), (5, 95, 0.25), (25, 75, 0.4)):
        edges = np.percentile(values, [low, high], axis=0)
        panel.fill_between(days, *edges, color="C0", alpha=alpha, linewidth=0, label=f"{high - low:g} %")
    panel.plot(days, values[:3].T, color="C1", linewidth=1.0)
    panel.set(title=name, xlabel="working days ahead", xlim=(0, 20), xticks=range(0, 21, 5))
panels[0].legend(loc="upper left")
figure.savefig("scenarios.svg")
