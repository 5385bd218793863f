"""Surfaces over HTTP, with the standard library: python client.py ADDRESS FILE."""

import json
import sys
import urllib.request
from pathlib import Path


def sample(address: str, count: int, seed: int) -> tuple[list[int], bytes]:
    """The shape [count, tenor, node] of sampled surfaces, and their vols as float32, little-endian."""
    request = urllib.request.Request(
        f"{address}/sample",
        json.dumps({"count": count, "seed": seed}).encode(),
        {"Content-Type": "application/json", "Accept": "application/octet-stream"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return [int(size) for size in answer.headers["volvae-shape"].split(",")], answer.read()


if __name__ == "__main__":
    shape, vols = sample(sys.argv[1], count=3, seed=7)
    Path(sys.argv[2]).write_bytes(vols)
    print(*shape)
