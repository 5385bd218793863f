"""The result of pricing with any model: vols, and for each missing one the reason."""

from typing import NamedTuple

from torch import Tensor

OK = 0  # the flag of a known vol, whatever the model


class PricedSurfaces(NamedTuple):
    """Implied-volatility surfaces of a batch of models.

    Attributes:
        vol: Black vols (decimal), float64 [batch, tenor, node]; NaN where ``flag`` is not ``OK``.
        flag: index into the model's list of flags, uint8 [batch, tenor, node].
    """

    vol: Tensor
    flag: Tensor
