"""Two models side by side, as text for people."""

from collections.abc import Callable, Iterator, Sequence

from pipeline.registry.compare import COVERAGE, DIGITS, Compared, Figure

_LONGEST, _BEFORE = 40, 12  # letters of a setting that are shown, and before its first difference


def text(found: Compared) -> str:
    """The comparison for people."""
    sides = [("A", found.first), ("B", found.second)]
    lines = [f"{letter}  {side.name}{side.verdict and f', {side.verdict}'}" for letter, side in sides]
    lines += ["", _verdict(found)]
    if found.figures:
        lines += ["", *_figures(found.figures)]
    for letter, side in sides:
        if not side.figures:
            what = "figures and settings of {} are not known: a bundle does not carry them"
            if side.is_judged:
                what = "figures of {} are not known: it was registered without those of evaluate"
            lines += ["", f"the {what.format(letter)}"]
    for title, values in (
        ("settings that differ", found.settings),
        ("code and machine, where they differ", found.code),
    ):
        if values:
            rows = [(name, *_pair(one, two)) for name, (one, two) in values.items()]
            lines += ["", *_columns([(title, "A", "B"), *rows], str.ljust)]
    if found.first.settings and found.second.settings and not found.settings:
        lines += ["", "no setting differs"]
    return "\n".join(lines)


def _verdict(found: Compared) -> str:
    """Whether figures and samples can be compared, in a line."""
    one, other = ("grid", "markets") if "grid" in found.first.manifest else ("dimension", "likelihood")
    if not found.obstacle:
        data = f"held-out data (data/surfaces {found.first.data[:DIGITS]})"
        return f"comparable: the same {one}, {other}, {data} and settings of evaluate"
    samples = f"samples can be compared, as {one} and {other} agree" if found.samples else "nor are samples"
    return f"figures are not comparable: {found.obstacle}; {samples}"


def _figures(figures: Sequence[Figure]) -> list[str]:
    """Headlines in columns, with what is better where that can be said."""
    judged = ("allowed", "better", "beyond") if any(figure.gain is not None for figure in figures) else ()
    return _columns([("", "A", "B", "B - A", *judged), *(_row(figure) for figure in figures)], str.rjust)


def _row(figure: Figure) -> tuple[str, ...]:
    style = _style(figure.name)
    row = (figure.name, style(figure.first), style(figure.second), style(figure.second - figure.first, "+"))
    if figure.gain is None:
        return row
    letter = {"first": "A", "second": "B", None: "-"}[figure.better]
    return (*row, style(figure.allowed), letter, style(figure.beyond) if figure.better else "")


def _style(name: str) -> Callable[..., str]:
    """How values of a figure are written: rates and shares in percent."""
    if name.endswith(("_rate", "_accuracy")) or name == COVERAGE:
        return lambda value, sign="": f"{value:{sign}.2%}"
    digits = ".2e" if name.endswith("_distance") else ",.2f"
    return lambda value, sign="": f"{value:{sign}{digits}}"


def _pair(one: object, two: object) -> Iterator[str]:
    """Two values in short, of which long ones, such as lists of tenors, are cut before they begin to differ."""
    texts = ["-" if value is None else str(value) for value in (one, two)]
    same = next((n for n, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = same - _BEFORE if same > _BEFORE and max(map(len, texts)) > _LONGEST else 0
    for text in texts:
        shown = f"...{text[start:]}" if start else text
        yield shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}..."


def _columns(rows: Sequence[Sequence[str]], align: Callable[[str, int], str]) -> list[str]:
    """Rows in columns, aligned but for the first, which is left."""
    widths = [max(len(row[n]) for row in rows if n < len(row)) for n in range(max(map(len, rows)))]
    return [
        "  ".join(
            cell.ljust(width) if n == 0 else align(cell, width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]
