"""The kernels of Heston pricing and inversion compiled by torch: C++ on a CPU, Triton on CUDA.

Compiling takes a minute; it pays from some hundred thousand surfaces on. Compiled code adds in another order, so that
vols differ from the eager ones in their last digits.
"""

import functools
import textwrap
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from vae.pricing import black, fourier, heston_surfaces
from vae.pricing.fourier import Rows
from vae.pricing.heston import Heston
from vae.pricing.heston_surfaces import Kernels

_T = TypeVar("_T")
_CONTRACTED = "cpp.enable_floating_point_contract_flag"  # a product and a sum in one instruction, rounded once
_LONGEST = 200  # characters of a message: torch's of an unknown option lists all that it knows


class CompilerError(RuntimeError):
    """There is no working compiler, or it lacks an option."""


@functools.cache
def kernels(device: torch.device) -> Kernels:
    """Compiled kernels for arrays of any size on a device, compiled once a process.

    Raises:
        CompilerError: there is no compiler, or torch does not know an option of ours.
    """
    try:
        result = Kernels(
            fourier=fourier.Kernels(_compiled(fourier.straight_integrand), _compiled(fourier.fall)),
            start=_narrow(heston_surfaces.start),
            advance=_narrow(black.advance),
            finish=_compiled(heston_surfaces.finish),
        )
        _warm_up(result, device)
    except Exception as error:  # the compiler raises many types; the first line of each names the fault
        first = str(error).strip().splitlines()[0]
        raise CompilerError(textwrap.shorten(first, _LONGEST, placeholder=" ...")) from error
    return result


def _compiled(function: Callable[..., _T]) -> Callable[..., _T]:
    return torch.compile(function, fullgraph=True, options={_CONTRACTED: "fast"})


def _narrow(function: Callable[..., _T]) -> Callable[..., _T]:
    """The function compiled; plain where ``wide``, as few designs have such total vols and compiling takes longer."""
    narrow = _compiled(function)

    def chosen(*arrays: Tensor, wide: bool) -> _T:
        return (function if wide else narrow)(*arrays, wide=wide)

    return chosen


def _warm_up(compiled: Kernels, device: torch.device) -> None:
    """Compile each kernel once for all sizes; without this, every new size compiles again."""

    def some(value: float) -> Tensor:
        result = torch.full((8,), value, dtype=torch.float64, device=device)
        torch._dynamo.mark_dynamic(result, 0)  # noqa: SLF001 - torch documents it under this name
        return result

    coefficients, tolerance = black.coefficients(device), torch.full((1,), 1e-6, dtype=torch.float64, device=device)
    compiled.finish(some(0.1), some(0.2), some(1.0), some(0.0), some(1.0), tolerance)  # the smallest finds no compiler
    rows = Rows(Heston(*(some(0.04) for _ in Heston._fields)), some(1.0), some(0.04))
    compiled.fourier.integrand(rows, some(1.0))
    compiled.fourier.fall(rows, some(4.0), some(3.0), some(0.0))
    compiled.start(some(0.1), some(0.2), some(1e-3), coefficients, wide=False)
    compiled.advance(some(0.1), some(-3.0), some(0.2), some(0.1), some(0.3), coefficients, wide=False)
