"""The output of a benchmark: a line for each figure, and one JSON document as the last line."""

import json
from collections.abc import Mapping


def show(results: Mapping[str, float], *remarks: str) -> None:
    """Print one line for each number, then the remarks, then the JSON document."""
    for name, value in results.items():
        print(f"{name:52} {value:14,.6g}")
    for remark in remarks:
        print(remark)
    print(json.dumps(results, allow_nan=False))
