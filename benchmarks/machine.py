"""The machine that a benchmark ran on, in the words that its speed depends on."""

import os
import platform
from pathlib import Path

_WIDEST = ("amx_tile", "avx512f", "avx2", "asimd")  # vector units, of which a class names the first that it has


def machine() -> str:
    """The class of this machine: processor, vector units and number of cores."""
    try:
        described = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:  # no Linux
        described = f"model name : {platform.processor() or platform.machine()}"
    return described_as(described, os.cpu_count() or 1)


def described_as(cpuinfo: str, cores: int) -> str:
    r"""The class of a machine with such a ``/proc/cpuinfo``.

    >>> described_as("model name : AMD EPYC\nflags : fpu avx avx2\n", 2)
    'AMD EPYC, avx2, 2 cores'
    """
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    vectors = [name for name in _WIDEST if name in flags][:1]
    return ", ".join([facts.get("model name", platform.machine()), *vectors, f"{cores} cores"])
