"""The numerics of volvae: from vols to a trained model of surfaces, its measures, and the ONNX graphs that ship.

Packages, in the order to read them, and what each may import (import-linter checks it):

- ``vae.surface``: what a surface is: grid, splines, features, static arbitrage. numpy only.
- ``vae.pricing``: models and market quotes to implied vols (Black, Heston, put-call parity). torch and scipy, float64.
- ``vae.model``: the autoencoder, its linear start, the ELBO, the prior of samples, completion. torch.
- ``vae.training``: the training loop, its optimiser and its arbitrage penalty. torch.
- ``vae.dynamics``: how surfaces and their underlying move from one date to the next, and what quotes so far say. numpy.
- ``vae.risk``: books of options over scenarios: values, risk measures, backtests. numpy.
- ``vae.evaluation``: figures of held-out surfaces and of samples, the exact likelihood. torch and scikit-learn.
- ``vae.graphs``: the trained model as ONNX graphs. torch and onnx.
- ``vae.runtime``, and what it stands on beside it: the public ``SurfaceModel`` and ``VectorModel`` (``surface_model``,
  ``vector_model``), the folder that ships (``bundle``) and its graphs in onnxruntime (``sessions``). Never torch.

No package reads settings or knows a service; ``pipeline`` does that.

Dictionary, the same names in all packages:

- ``iv``, ``vol``: Black implied volatility, decimal (0.2 is 20 %), per square root of a year.
- ``tenor``: time to expiry in years, ACT/365.
- ``k``, ``log_moneyness``: ln(K/F), with the forward F of the tenor.
- ``w``, ``variance``: total variance vol^2 tenor; its square root is the total volatility.
- ``v0``, ``theta``: Heston's initial and long-run variance, per year; ``kappa``: its mean reversion, per year;
  ``vol_of_vol``; ``rho``: the correlation of the price with its variance.
- ``z``: latents; ``mean``, ``log_std``: of their posterior given a surface.
- ``scale``: standard deviation of the observation noise, in decimal vols.
- Axes in docstrings: ``[batch, tenor, node, latent]``; a leading ``*batch`` stands for any number of axes.
"""
