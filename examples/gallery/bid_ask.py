"""Bid and ask quotes of listed options.

A chain of listed strikes and expiries. A quote counts by its spread: a weight is a precision in units of the model's
own noise, so that a wide market says little. Here a half spread is taken as 1.645 standard deviations.
"""

import datetime as dt

import matplotlib.pyplot as plt
import numpy as np

from vae.runtime import SurfaceModel

model = SurfaceModel.load("demo/bundle")
chain = np.genfromtxt("demo/quotes/chain.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
chain = chain[chain["date"] == "2026-03-02"]
days = np.array([(dt.date.fromisoformat(e) - dt.date(2026, 3, 2)).days for e in chain["expiry"]])
k = np.log(chain["strike"] / chain["forward"])
mid, half = 0.5 * (chain["bid_iv"] + chain["ask_iv"]), 0.5 * (chain["ask_iv"] - chain["bid_iv"])
noise = model.manifest["observation_scale_vol"]
found = model.complete(mid, tenor=days / 365, log_moneyness=k, weight=(1.645 * noise / half) ** 2)

figure, axes = plt.subplots()
for number, expiry in enumerate(np.unique(days)):
    mine = days == expiry
    colour = f"C{number}"
    axes.errorbar(k[mine], 100 * mid[mine], 100 * half[mine], fmt="none", color=colour, linewidth=2.4)
    line = np.linspace(k[mine].min(), k[mine].max(), 60)
    smile = model.surfaces(found.iv[None]).at(log_moneyness=line, tenor=expiry / 365)[0]
    axes.plot(line, 100 * smile, color=colour, linewidth=1.0, label=f"{expiry} days")
axes.set(xlabel="log-moneyness ln(K/F)", ylabel="vol, %")
axes.legend(title="bars from bid to ask")
figure.savefig("bid_ask.svg")
inside = np.abs(found.fitted - mid) <= half
print(f"{inside.mean():.0%} of {len(mid)} markets hold the surface between bid and ask")
