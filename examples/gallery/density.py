"""The density that a completed surface implies.

The second derivative of call prices by the strike is the risk-neutral density of the underlying (Breeden and
Litzenberger 1978). It is positive where a surface has no butterfly arbitrage.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.runtime import SurfaceModel
from vae.surface.arbitrage import call_price

model = SurfaceModel.load("demo/bundle")
quotes = np.genfromtxt("demo/quotes/smile.csv", delimiter=",", names=True)
found = model.complete(quotes["iv"], tenor=quotes["days"] / 365, log_moneyness=quotes["log_moneyness"])
surface = model.surfaces(found.iv[None])

figure, axes = plt.subplots()
for days in (30, 91, 182, 365):
    reach = 0.4 * np.sqrt(days / 365)
    strikes = np.linspace(np.exp(-reach), np.exp(0.9 * reach), 201)  # in units of the forward
    vol = surface.at(log_moneyness=np.log(strikes), tenor=days / 365)[0]
    calls = call_price(vol**2 * days / 365, np.log(strikes))
    density = np.diff(calls, 2) / (strikes[1] - strikes[0]) ** 2
    axes.plot(strikes[1:-1], density, label=f"{days} days")
axes.set(xlabel="strike, in units of the forward", ylabel="density, per unit of the forward", ylim=(0, None))
axes.legend()
figure.savefig("density.svg")
