"""Registry of the models that surfaces are simulated with: one line each."""

from typing import NamedTuple, Protocol

from torch import Tensor

from vae.pricing import compiled as compiled_kernels
from vae.pricing import heston, heston_surfaces
from vae.pricing.priced_surfaces import PricedSurfaces
from vae.surface.grid import Grid


class Pricing(Protocol):
    """The function that prices a batch of models on a grid."""

    def __call__(self, parameters: Tensor, grid: Grid, *, vol_tolerance: float, compiled: bool) -> PricedSurfaces:
        """Vols and flags.

        Args:
            parameters: float64 [batch, parameter].
            grid: tenors and nodes, of any convention.
            vol_tolerance: largest accepted error of a vol.
            compiled: use compiled code where the model has any; it may round differently.

        Raises:
            CompilerError: ``compiled`` is true, and there is no compiler.
        """


class SimulatedModel(NamedTuple):
    """A model that surfaces are simulated with.

    Attributes:
        parameters: names, in the order of the last axis of ``Pricing``'s argument.
        flags: why a vol is missing, by flag; the first is for known vols.
        surfaces: prices a batch of models.
        has_jacobian: whether the stage evaluate can differentiate the vols, which the exact log-likelihood needs.
    """

    parameters: tuple[str, ...]
    flags: tuple[str, ...]
    surfaces: Pricing
    has_jacobian: bool


def _heston(parameters: Tensor, grid: Grid, *, vol_tolerance: float, compiled: bool) -> PricedSurfaces:
    kernels = compiled_kernels.kernels(parameters.device) if compiled else heston_surfaces.EAGER
    return heston_surfaces.surfaces(parameters, grid, vol_tolerance=vol_tolerance, kernels=kernels)


MODELS = {
    "heston": SimulatedModel(heston.PARAMETERS, heston_surfaces.FLAGS, _heston, has_jacobian=True),
}
