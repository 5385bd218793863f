"""A fake accelerator, for the checks of device code that a machine without one allows.

Under PyTorch's FakeTensorMode every operation yields shape, type and device of its result, and no numbers. To mix a
tensor of the device with one that was left on the CPU is an error, as on a real device.

Four things that a fake device cannot do are replaced:

- Numbers that Python reads from the device (``item``, ``if``, ``int``) are fixed: 1.0, true and 9.
- A generator of random numbers cannot be made for a device that the build of torch lacks: the default one is used.
- ``Module.to`` cannot replace fake parameters in place: it makes new ones.
- Work cannot be recorded: it runs at each call.
"""

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from vae.training.captured import Captured


def register_device() -> torch.device:
    """CUDA; where torch is built for the CPU, the device that it offers to backends written in Python.

    Autograd and indexing ask a device for its guard, which a build for the CPU has for no ``cuda`` device. The other
    one differs in its name only. It stays registered for the rest of the process, so take a process for it.
    """
    if torch.version.cuda is not None:
        return torch.device("cuda", 0)
    _setup_privateuseone_for_python_backend("fake")
    return torch.device("fake", 0)


@contextlib.contextmanager
def fake_tensors() -> Iterator[None]:
    """Fake tensors inside; real ones that are brought in become fake ones of their device."""
    with pytest.MonkeyPatch.context() as patch, _FakeTensorMode(allow_non_fake_inputs=True):
        patch.setattr(FakeTensor, "item", lambda self: 1.0, raising=False)
        patch.setattr(FakeTensor, "tolist", lambda self: [1.0] * self.numel(), raising=False)
        patch.setattr(FakeTensor, "__bool__", lambda self: True, raising=False)
        patch.setattr(FakeTensor, "__int__", lambda self: 9, raising=False)
        patch.setattr(nn.Module, "_apply", _apply)
        patch.setattr(torch, "Generator", _NoGenerator)
        patch.setattr(Captured, "__new__", lambda _, function: function)
        yield


class _FakeTensorMode(FakeTensorMode):
    """Never computes a constant on the device, which a registered device would be asked for."""

    avoid_device_init = True


class _NoGenerator:
    """Stands for ``torch.Generator``: seeded, it is None, for which torch takes the default generator."""

    def __init__(self, device: object = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        """No generator."""


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], **_: bool) -> nn.Module:
    for child in module.children():
        _apply(child, change)
    for name, value in module._parameters.items():
        if value is not None:
            module._parameters[name] = nn.Parameter(change(value.detach()), value.requires_grad)
    for name, value in module._buffers.items():
        if value is not None:
            module._buffers[name] = change(value)
    return module
