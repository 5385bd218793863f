"""A complete application of the bundle: scenarios of the at-the-money term structure, without torch.

python examples/scenarios.py [BUNDLE]
"""

import sys

import numpy as np

from vae.runtime import SurfaceModel


def main(bundle: str) -> None:
    """Print the 5 %, 50 % and 95 % quantiles of at-the-money vol over 10,000 surfaces, tenor by tenor."""
    model = SurfaceModel.load(bundle)
    surfaces = model.sample(10_000, seed=7)
    at_the_money = surfaces[:, :, np.abs(model.grid.nodes).argmin()]
    quantiles = np.quantile(at_the_money, [0.05, 0.5, 0.95], axis=0).T
    sys.stdout.write("tenor, years   5 %     50 %    95 %\n")
    for tenor, row in zip(model.grid.tenors, quantiles, strict=True):
        sys.stdout.write(f"{tenor:12.3f}" + "".join(f"{vol:8.1%}" for vol in row) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "artifacts/bundle")
