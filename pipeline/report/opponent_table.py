"""The model beside linear opponents: completion by each as the rows of one table, reconstruction by PCA in words."""

import re
from collections.abc import Mapping

from vae.surface.units import Unit

_TITLES = {
    "gaussian": "Gaussian",
    "ppca": "pPCA",
    "log_gaussian": "Gaussian of logarithms",
    "log_ppca": "pPCA of logarithms",
}
_NAME = re.compile(rf"(?P<kind>{'|'.join(_TITLES)})(_(?P<days>[\d.e+-]+)_days)?")
_PARTS = (("completion_hidden_mae", "hidden"), ("completion_mae", "all"))


def table(figures: Mapping[str, float], suffix: str) -> list[tuple[str, ...]]:
    """A header and a row for each number of known points, over hidden and over all points; empty without opponents.

    Args:
        figures: of the stage evaluate.
        suffix: of the unit of errors, ``_bp`` or empty.
    """
    names = _names(figures, "log_likelihood_nats")
    ends = [
        (figure, part, end)
        for figure, part in _PARTS
        for end in (key.removeprefix(figure) for key in figures if key.startswith(f"{figure}{suffix}_"))
        if f"opponent_{figure}{end}" in figures
    ]
    if not names or not ends:
        return []
    header = ("known points", "error over", "volvae", *(_title(figures, name) for name in names), "best opponent")
    rows = [
        (
            end.rpartition("_")[2],
            part,
            f"{figures[f'{figure}{end}']:.4g}",
            *(f"{figures[f'opponent_{name}_{figure}{end}']:.4g}" for name in names),
            best(figures, f"{figure}{end}"),
        )
        for figure, part, end in ends
    ]
    densities = (f"{figures[f'opponent_{name}_log_likelihood_nats']:,.1f}" for name in names)
    ours = f"{figures['elbo_nats']:,.1f} (ELBO)"
    return [header, *rows, ("", "log density, nats", ours, *densities, best(figures, "log_likelihood_nats"))]


def whole_beside_pca(figures: Mapping[str, float], unit: Unit, style: str) -> str:
    """The error of PCA with as many numbers as the whole reconstruction; empty where these are the latents alone."""
    name, numbers = f"whole_pca_reconstruction_rmse{unit.suffix}", figures.get("reconstruction_numbers")
    if name not in figures or numbers is None or numbers == figures["latents"]:
        return ""
    return f"PCA with as many numbers, {numbers:.0f}: {figures[name]:{style}} {unit.name}".rstrip()


def best(figures: Mapping[str, float], figure: str) -> str:
    """The title of the opponent that has the best value of a figure, which is ``opponent_FIGURE``."""
    names = (
        name
        for name in _names(figures, figure)
        if figures.get(f"opponent_{name}_{figure}") == figures[f"opponent_{figure}"]
    )
    return _title(figures, next(names))


def _names(figures: Mapping[str, float], figure: str) -> list[str]:
    """The names of the opponents that have a figure: those to which all ages are alike, then by their half-lives."""
    start, end = "opponent_", f"_{figure}"
    own = (key.removeprefix(start).removesuffix(end) for key in figures if key.startswith(start) and key.endswith(end))
    found, order = [match for name in own if (match := _NAME.fullmatch(name))], list(_TITLES)
    found.sort(key=lambda match: (float(match["days"] or 0.0), order.index(match["kind"])))
    return [match[0] for match in found]


def _title(figures: Mapping[str, float], name: str) -> str:
    """The title of an opponent, with its rank and with the half-life of the weights of its surfaces."""
    kind = name if name in _TITLES else name.rsplit("_", 2)[0]
    rank, days = figures.get(f"opponent_{name}_rank"), "" if kind == name else f", half-life {name.split('_')[-2]} days"
    return f"{_TITLES[kind]}{'' if rank is None else f', rank {rank:.0f}'}{days}"
