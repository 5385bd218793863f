"""Whether data drift from what a model learned: the share of unlikely surfaces, and a page with scores by date."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.files.dataset import Dataset
from pipeline.report import blocks, motion_drift
from pipeline.report.blocks import Card, Section
from pipeline.report.charts import Axis, Level, Mark, chart
from pipeline.report.motion_drift import LogScores
from vae.runtime import Scores, SurfaceModel, VectorModel
from vae.surface.days import date_of

Array = NDArray[np.float64]

_TAIL_PERCENT = 1.0  # of held-out surfaces: the least likely ones, or those that fit worst
USUAL_SHARE = 0.05  # of unlikely surfaces that is no drift, where no settings say another
_FLOOR = 0.01  # percentile as which lower ones are drawn
_WINDOW = 20  # surfaces, of which the share of unlikely ones is drawn
_ROWS = 10  # of the table of the least likely
_SIGNIFICANT = 2.0  # standard errors of a difference of mean log scores


class Watched(NamedTuple):
    """Surfaces or vectors with their scores by a model, in the order of time.

    Attributes:
        scores: of each.
        days: date of each, days since 1970-01-01, [surface]; None where dates are not known.
        titles: name of each, such as its date; None where they have none but their place.
        motion: log scores of the dates by the law of motion; None where there is none.
    """

    scores: Scores
    days: NDArray[np.integer] | None = None
    titles: Sequence[str] | None = None
    motion: LogScores | None = None


class Rule(NamedTuple):
    """How a scheduled run judges drift.

    Attributes:
        allowed_share: the largest share of unlikely surfaces that is no drift.
        watched: whether drift is among the reasons to train; None where no settings of runs are known.
    """

    allowed_share: float = USUAL_SHARE
    watched: bool | None = None


def unlikely_share(scores: Scores) -> float | None:
    """Share of unlikely ones among those that can be ranked; None where none can."""
    known = scores.percentile[np.isfinite(scores.percentile)]
    return float((known < _TAIL_PERCENT).mean()) if len(known) else None


def of_test_split(model: SurfaceModel | VectorModel, folder: Path, *, motion: bool) -> Watched | None:
    """The test split of a data set; None where there is none, or one of another kind than the model's.

    Args:
        model: that scores it.
        folder: of the data set.
        motion: whether the law of motion scores the dates too, which takes 20 ms each.
    """
    data = Dataset(folder)
    if not data.file("test").exists() or data.of_vectors != isinstance(model, VectorModel):
        return None
    if isinstance(model, VectorModel):
        vectors = data.points("test")
        return Watched(model.score(vectors)) if vectors.shape[1] == model.dimension else None
    if data.grid.to_dict() != model.grid.to_dict():
        return None
    scores = model.score(data.arrays("test")["iv"])
    return Watched(scores, data.date("test"), motion=motion_drift.of_test_split(model, data) if motion else None)


def text(incoming: Watched, rule: Rule) -> str:
    """The verdict in one line."""
    share = unlikely_share(incoming.scores)
    if share is None:
        return "drift cannot be judged: no incoming surface has as many known points as held-out ones"
    ranked = int(np.isfinite(incoming.scores.percentile).sum())
    others = len(incoming.scores.percentile) - ranked
    among, rest = (" that can be ranked", f"; {others:,} cannot be ranked") if others else ("", "")
    counted = f"{share:.1%} of {ranked:,} incoming surfaces{among} are unlikely, {rule.allowed_share:.1%} may be{rest}"
    return f"the data drift: {counted}" if share > rule.allowed_share else f"no drift: {counted}"


def drift_page(model: str, test: Watched | None, incoming: Watched, rule: Rule) -> str:
    """The page; the same arguments give the same text.

    Args:
        model: that scored, in words.
        test: the test split, which the percentiles are among or beside; None where it is not known.
        incoming: the surfaces that are watched.
        rule: of ``retrain``.
    """
    shown = [(*each, watched) for each, watched in zip(_NAMES, (test, incoming), strict=True) if watched is not None]
    sections = [
        _percentiles(shown, "percentile", "Log density", "held-out ones less likely, %", _TAIL_PERCENT),
        _percentiles(shown, "misfit_percentile", "Fit", "held-out ones fit worse, %", 100.0 - _TAIL_PERCENT),
        _shares(shown, rule),
        *_motion(shown),
    ]
    content = (
        f"{_verdict(incoming, rule)}{blocks.cards(_cards(test, incoming, rule))}{blocks.charts(sections)}"
        f"{blocks.table('The least likely incoming surfaces', _least_likely(incoming))}"
    )
    return blocks.document("volvae: drift", f"incoming data beside what {model} learned", content)


_NAMES = (("test dates", "quiet-mark"), ("incoming", "own"))
_Shown = Sequence[tuple[str, str, Watched]]


def _verdict(incoming: Watched, rule: Rule) -> str:
    share = unlikely_share(incoming.scores)
    if share is None:
        colour, title = "amber", "Drift cannot be judged"
    elif share > rule.allowed_share:
        colour, title = "amber", "The data drift"
    else:
        colour, title = "green", "No drift"
    if rule.watched is None:
        then = "No settings of scheduled runs are here, so that the usual share is the bound."
    elif not rule.watched:
        then = "Scheduled runs do not watch for drift: it is not in retrain.when."
    elif colour == "green":
        then = "For drift alone, a scheduled run would not train."
    else:
        then = "A scheduled run trains, if data, code or settings changed."
    if share is None and rule.watched is not None:
        then = "A scheduled run does not train for drift."
    line = text(incoming, rule)
    return (
        f'<section class="verdict {colour}"><h2>{title}</h2><p>{html.escape(line[0].upper() + line[1:])}. A '
        f"surface is unlikely if its log density lies below that of {100.0 - _TAIL_PERCENT:g} % of the held-out ones. "
        f'{then}</p><p><a href="report.html">Report</a> of the newest version.</p></section>'
    )


def _cards(test: Watched | None, incoming: Watched, rule: Rule) -> list[Card]:
    share, of_test = unlikely_share(incoming.scores), None if test is None else unlikely_share(test.scores)
    anchor = "" if of_test is None else f"test dates: {of_test:.1%}"
    unlikely = Card("unknown" if share is None else f"{share:.1%}", "of incoming surfaces are unlikely", anchor)
    known = incoming.scores.misfit_percentile[np.isfinite(incoming.scores.misfit_percentile)]
    worse = Card(
        f"{(known > 100.0 - _TAIL_PERCENT).mean():.1%}" if len(known) else "unknown",
        f"fit worse than {100.0 - _TAIL_PERCENT:g} % of held-out ones",
        f"without drift: {_TAIL_PERCENT:g} %",
    )
    cards = [unlikely, worse, Card(f"{rule.allowed_share:.1%}", "may be unlikely, retrain.odd_share")]
    if incoming.motion is None:
        return cards
    found, beside = motion_figures(test, incoming), "test dates: not known"
    if found["log_score_excess"] is None and found["log_score_excess_test"] is None:
        return cards
    if found["log_score_excess_test"] is not None:
        mean, deviation = found["log_score_excess_test"], found["log_score_excess_test_deviation"]
        beside = f"test dates: {mean:+.2f}, standard deviation of a date {deviation:.2f}"
    nats = "unknown" if found["log_score_excess"] is None else f"{found['log_score_excess']:+.2f} nats"
    return [*cards, Card(nats, "log score of a date beyond what the law of motion expects", beside)]


def motion_figures(test: Watched | None, incoming: Watched) -> dict[str, float | None]:
    """Mean log scores of dates by the law of motion, nats; None where they are not known.

    ``log_score_excess``: of the incoming dates, beyond what the law expects; ``log_score_excess_test`` and
    ``log_score_excess_test_deviation``: of the test dates, with the standard deviation of a date;
    ``log_score_excess_error``: standard error of the difference of both means.
    """
    own = np.zeros(0) if incoming.motion is None else incoming.motion.known
    other = np.zeros(0) if test is None or test.motion is None else test.motion.known
    spread = float(other.std(ddof=1)) if len(other) > 1 else None
    error = spread * float(1.0 / len(own) + 1.0 / len(other)) ** 0.5 if spread and len(own) else None
    return {
        "log_score_excess": float(own.mean()) if len(own) else None,
        "log_score_excess_test": None if spread is None else float(other.mean()),
        "log_score_excess_test_deviation": spread,
        "log_score_excess_error": error,
    }


def motion_text(found: Mapping[str, float | None]) -> str:
    """How the mean log scores compare, in a line."""
    own, other, error = (
        found[name] for name in ("log_score_excess", "log_score_excess_test", "log_score_excess_error")
    )
    if own is None:
        return "The law of motion foretold none of the incoming dates."
    if other is None or error is None:
        return "Nothing is known to compare with: the test dates are not here."
    gap = own - other
    if abs(gap) <= _SIGNIFICANT * error:
        return f"Incoming dates are foretold as well as test dates: {gap:+.2f} nats a date, standard error {error:.2f}."
    better = "better" if gap > 0.0 else "worse"
    return f"Incoming dates are foretold {better} than test dates: {gap:+.2f} nats a date, standard error {error:.2f}."


def _motion(shown: _Shown) -> list[Section]:
    """The log score of each date by the law of motion, if there is one."""
    test, incoming = (next((each for name, _, each in shown if name == wanted), None) for wanted, _ in _NAMES)
    if incoming is None or incoming.motion is None:
        return []
    found = motion_figures(test, incoming)
    caption = " ".join(
        [motion_text(found), *(f"{reason[0].upper()}{reason[1:]}." for reason in incoming.motion.reasons)]
    )
    marks = []
    for legend, colour, watched in shown:
        if watched.motion is not None and len(watched.motion.known):
            nats = watched.motion.nats
            places, labels = _places(watched, shown)[-len(nats) :], _labels(watched)[-len(nats) :]
            notes = [f"{label}: {value:.2f} nats" for label, value in zip(labels, nats.tolist(), strict=True)]
            marks.append(Mark(places, nats, legend, colour, "dots", notes=notes))
    if not marks:
        return [Section("Law of motion", "", caption)]
    known = found["log_score_excess_test"]
    picture = chart(
        marks,
        _axis(shown),
        Axis("log score less its mean by the law, nats", style=".1f"),
        levels=[] if known is None else [Level(known, "mean of test dates")],
        label="Log score of each date by the law of motion, one step ahead",
    )
    return [Section("Law of motion, one step ahead", picture, f"{caption} Scheduled runs do not decide by it.")]


def _percentiles(shown: _Shown, name: str, title: str, axis: str, beyond: float) -> Section:
    """Where each surface lies among the held-out ones, by its distance from the end of the tail, 0 or 100."""
    low = beyond < 50.0
    marks = []
    for legend, colour, watched in shown:
        percent = getattr(watched.scores, name)
        ends = np.clip(percent if low else 100.0 - percent, _FLOOR, None)
        notes = [f"{label}: {value:.3g} %" for label, value in zip(_labels(watched), percent.tolist(), strict=True)]
        marks.append(Mark(_places(watched, shown), ends, legend, colour, "dots", notes=notes))
    picture = chart(
        marks,
        _axis(shown),
        Axis(axis, log=True, holds=(_FLOOR, 100.0), style="g"),
        levels=[Level(_TAIL_PERCENT, f"{_TAIL_PERCENT:g} %")],
        label=f"{title} of each surface, as percentile among held-out surfaces",
    )
    return Section(
        title, picture, f"One in a hundred held-out surfaces lies below the line; {_FLOOR:g} % or less at the bottom."
    )


def _shares(shown: _Shown, rule: Rule) -> Section:
    """The share of unlikely surfaces among the last ones that can be ranked."""
    marks = []
    for legend, colour, watched in shown:
        ranked = np.isfinite(watched.scores.percentile)
        if not ranked.any():
            continue
        unlikely = watched.scores.percentile[ranked] < _TAIL_PERCENT
        count = min(_WINDOW, len(unlikely))
        share = 100.0 * np.convolve(unlikely, np.full(count, 1.0 / count), "valid")
        marks.append(Mark(_places(watched, shown)[ranked][count - 1 :], share, legend, colour, "line dots"))
    picture = chart(
        marks,
        _axis(shown),
        Axis(f"unlikely ones of the last {_WINDOW}, %", holds=(0.0,)),
        levels=[Level(100.0 * rule.allowed_share, "retrain.odd_share")],
        label="Share of unlikely surfaces over time",
    )
    return Section("Unlikely surfaces over time", picture, "The rule of retrain counts all incoming surfaces together.")


def _axis(shown: _Shown) -> Axis:
    return Axis("date", dates=True) if _dated(shown) else Axis("surface, in the order of the file", style=",.0f")


def _dated(shown: _Shown) -> bool:
    return all(watched.days is not None for _, _, watched in shown)


def _places(watched: Watched, shown: _Shown) -> Array:
    """Where the surfaces stand on the horizontal axis: days, or numbers that go on from the sets before."""
    if watched.days is not None and _dated(shown):
        return np.asarray(watched.days, np.float64)
    before = 0
    for _, _, each in shown:
        if each is watched:
            break
        before += len(each.scores.nats)
    return before + np.arange(len(watched.scores.nats), dtype=np.float64)


def _labels(watched: Watched) -> list[str]:
    if watched.titles is not None:
        return list(watched.titles)
    if watched.days is not None:
        return [str(date_of(day)) for day in watched.days]
    return [str(number) for number in range(len(watched.scores.nats))]


def _least_likely(incoming: Watched) -> list[tuple[str, ...]]:
    """The incoming surfaces of the lowest percentile, the least likely first."""
    scores, labels = incoming.scores, _labels(incoming)
    order = np.argsort(np.where(np.isfinite(scores.percentile), scores.percentile, np.inf), kind="stable")
    columns = (scores.percentile, scores.misfit_percentile, scores.distance_percentile, scores.error_percentile)
    rows = [
        (labels[place], *(f"{column[place]:.3g} %" if np.isfinite(column[place]) else "-" for column in columns))
        for place in order[:_ROWS].tolist()
    ]
    return [("surface", "less likely", "fit better", "more common", "smaller largest error"), *rows]
