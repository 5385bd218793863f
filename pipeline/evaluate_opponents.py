"""The linear models that a model is measured beside, fitted to the surfaces that come before the test split."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.files.dataset import SPLITS, Dataset
from vae.evaluation.opponents import Opponent, linear_opponents, usable_transforms
from vae.model.rows import empty_columns

_BEFORE_TEST = SPLITS[:-1]


def fitted_opponents(data: Dataset, half_lives: Sequence[float | None]) -> dict[str | None, tuple[Opponent, ...]]:
    """Opponents of all markets (None) and of each one, with and without weights of age.

    There are none where its surfaces all miss the same point, or where none of them validates.

    Args:
        data: the data set.
        half_lives: days of age at which a surface weighs half as much: the model's own, so that it has no weights that
            its opponents lack, and others to try; None for no further one.
    """
    *rows, test = (torch.from_numpy(data.points(split)) for split in SPLITS)
    days, markets = (
        [torch.from_numpy(found) for split in _BEFORE_TEST if (found := of(split)) is not None]
        for of in (data.date, data.market)
    )
    chosen: dict[str | None, list[Tensor | slice]] = {None: [slice(None) for _ in rows]}  # copies nothing
    chosen |= {name: [market == place for market in markets] for place, name in enumerate(data.markets)}
    transforms = usable_transforms(*rows, test)
    ages = sorted({one for one in half_lives if one is not None})
    opponents: dict[str | None, tuple[Opponent, ...]] = {}
    for market, masks in chosen.items():
        train, validation = (part[mask] for part, mask in zip(rows, masks, strict=True))
        dated = torch.cat([part[mask] for part, mask in zip(days, masks, strict=True)]) if days else None
        known = len(validation) and not empty_columns(train).any()
        opponents[market] = linear_opponents(train, validation, transforms, dated, ages) if known else ()
    return opponents
