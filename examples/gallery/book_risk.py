"""The risk of a book over scenarios.

A short straddle hedged with the underlying, valued over 5,000 scenarios of the surface and the spot five days ahead.
Value at risk is the loss that at most one in a hundred scenarios exceed, expected shortfall the mean of the
worst one in a hundred.
"""

import matplotlib.pyplot as plt
import numpy as np

from vae.risk.book import CALL, PUT, UNDERLYING, Book, Underlying, greeks, valued
from vae.risk.measures import risk
from vae.runtime import SurfaceModel

model = SurfaceModel.load("examples/dated")
spot = Underlying(np.array([100.0]))
kinds, strikes = np.array([CALL, PUT, UNDERLYING]), np.array([100.0, 100.0, 0.0])
book = Book(kinds, strikes, tenor=np.full(3, 0.25), quantity=np.array([-1.0, -1.0, 0.0]))
today = valued(book, spot, model.state.iv[None], model.grid)
delta = greeks(book, spot, today.vol[0]).delta @ book.quantity
quantity = np.array([-1.0, -1.0, -delta])

paths = model.scenarios(days=5, n=5000, seed=7)
years = (paths.dates[-1] - model.state.date).days / 365
moved = Underlying(100.0 * np.exp(paths.log_return[:, -1]))
then = valued(book.after(years), moved, paths.iv[:, -1], model.grid)
pnl = (then.value - today.value) @ quantity
found = risk(pnl, 0.99)

figure, axes = plt.subplots()
axes.hist(pnl, bins=np.linspace(np.quantile(pnl, 0.001), pnl.max(), 60), color="C0", alpha=0.7)
axes.axvline(-found.value_at_risk, color="C1", label=f"99 % value at risk, {found.value_at_risk:.2f}")
shortfall = f"expected shortfall, {found.expected_shortfall:.2f}"
axes.axvline(-found.expected_shortfall, color="C3", linestyle="--", label=shortfall)
axes.set(xlabel="profit and loss after five days, % of spot", ylabel="scenarios of 5,000")
axes.legend(loc="upper left")
figure.savefig("book_risk.svg")
