"""The model card of a registered version: what it is for, what it was made of, how good it is and where it ends.

The sections are those of Mitchell et al. (2019), "Model Cards for Model Reporting", https://arxiv.org/abs/1810.03993;
the head is the metadata of a card on Hugging Face, https://huggingface.co/docs/hub/model-cards.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.headlines import headlines
from pipeline.report.blocks import Card
from pipeline.report.verdict import CARD, Judged
from vae.surface.units import DAYS_PER_YEAR

_SPLITS = {"train": "training", "validation": "validation", "test": "test"}


class Subject(NamedTuple):
    """A version that a card is written of.

    Attributes:
        judged: the version with its verdict and facts.
        main: the main figures, each with what it is measured by.
        source: kind of the data, as ``prepare.source`` names it.
        prepared, evaluated: figures of the stages prepare and evaluate.
        manifest: of the bundle.
    """

    judged: Judged
    main: Sequence[Card]
    source: str
    prepared: Mapping[str, Any]
    evaluated: Mapping[str, float]
    manifest: Mapping[str, Any]

    @property
    def of_surfaces(self) -> bool:
        """Whether it is a model of surfaces, else of vectors."""
        return "grid" in self.manifest

    @property
    def things(self) -> str:
        """The kind of data that the model draws."""
        return "implied-volatility surfaces" if self.of_surfaces else "vectors"


def model_card(subject: Subject) -> str:
    """The card as Markdown with metadata in YAML; the same arguments give the same text."""
    judged = subject.judged
    facts = "".join(f"- {name}: {text}\n" for name, text in judged.facts.items())
    return f"""\
---
{_metadata(subject)}
---

# {judged.title}

{_verdict(judged)}

## Model details

A variational autoencoder of {subject.things}, exported as ONNX graphs that sample, decode, encode, complete
and score them on any onnxruntime.

{_details(subject)}{facts}
## Intended use

{_use(subject)}

## Factors

{_factors(subject)}

## Metrics

{_metrics(subject)}

## Evaluation data

{_count(subject, "test")}, held out: they took no part in training or in the choice of the weights. The test split
of dated data is the newest, so that its figures include how the market has moved since.

## Training data

Data: {_source(subject)}. {_count(subject, "train")} and, to choose the weights, {_count(subject, "validation")}.
{_rejected(subject.prepared)}
## Quantitative analyses

{_figures(subject.main)}
{_checks(judged)}
## Ethical considerations

{_ethics(subject)}

## Caveats and recommendations

{_caveats(subject)}
## How to get started

```python
from vae.runtime import {"SurfaceModel" if subject.of_surfaces else "VectorModel"}

model = {"SurfaceModel" if subject.of_surfaces else "VectorModel"}.load("bundle")  # of `volvae fetch VERSION -o bundle`
drawn = model.sample(1000, seed=7)
```

## How to reproduce

{_rebuild(judged)}; its weights have the sha256
`{subject.manifest["weights_sha256"]}`.
"""


def summary(subject: Subject) -> str:
    """The first things of the card, for a page that has no room for it."""
    return (
        f"{_verdict(subject.judged)}\n\n{_figures(subject.main)}\n\n"
        f"Data: {_source(subject)}. The whole card is among the artifacts of the run, `report/{CARD}`."
    )


def _metadata(subject: Subject) -> str:
    """Metadata in YAML; JSON is YAML, too."""
    metrics = "".join(
        f"\n      - type: {name}\n        value: {json.dumps(value)}"
        for name, value in headlines(subject.evaluated).items()
    )
    kind = "implied-volatility" if subject.of_surfaces else "vectors"
    return f"""\
library_name: volvae
tags: [variational-autoencoder, onnx, {kind}]
model-index:
  - name: {json.dumps(subject.judged.title)}
    results:
    - task:
        type: {"surface-generation" if subject.of_surfaces else "vector-generation"}
      dataset:
        type: {subject.source}
        name: {json.dumps(_source(subject))}
        split: test
      metrics:{metrics or " []"}"""


def _verdict(judged: Judged) -> str:
    if judged.accepted is None:
        return f"Not judged by a gate: {judged.reason}."
    words = "Accepted" if judged.accepted else "**Refused**"
    return f"{words} by the gate: {judged.reason}."


def _checks(judged: Judged) -> str:
    """The checks of the gate; nothing where there was none."""
    checks = [f"- {'passed' if passed else 'FAILED'}: {text}\n" for passed, text in judged.checks]
    return f"\nThe gate checked:\n\n{''.join(checks)}" if checks else ""


def _rebuild(judged: Judged) -> str:
    """The command that makes the version anew, or the one that names what made it."""
    command = judged.facts.get("to rebuild", "volvae lineage VERSION")
    if judged.accepted is None:
        return f"`{command}` makes it anew, by the settings and versions of packages that lie beside it"
    return (
        f"`{command}` names the commit, the data, the settings, the seeds and the\nversions of all packages, and the "
        "commands that make the same bundle of them"
    )


def _details(subject: Subject) -> str:
    manifest = subject.manifest
    lines = [
        f"{manifest['latents']} latents"
        + (f", {manifest['residual_factors']} residual factors" if manifest.get("residual_factors") else ""),
        f"law of the latents: {manifest['prior']}",
        f"transform of the data: {manifest['transform']}",
        f"units: {manifest['units']}",
        f"volvae {manifest['volvae_version']}, bundle format {manifest['format']}",
    ]
    return "".join(f"- {line}\n" for line in lines)


def _use(subject: Subject) -> str:
    if not subject.of_surfaces:
        return (
            "To draw vectors like the training data, to complete one from some of its points with intervals, and to "
            "say how likely one is. Not for data of another kind or in other units."
        )
    return (
        "To draw scenarios of surfaces, to complete a surface from quotes with intervals, and to say how likely a "
        "surface is, for those who know the market that it learned.\n\n"
        "Not for markets or regimes that the training data lacks, not beyond its grid, and not as the only source of a "
        "price that is traded on. It knows no news: what it says of a date is what the quotes given to it say."
    )


def _factors(subject: Subject) -> str:
    manifest = subject.manifest
    if not subject.of_surfaces:
        return f"{manifest['dimension']} points with {manifest['likelihood']} likelihood."
    grid = manifest["grid"]
    days = [DAYS_PER_YEAR * tenor for tenor in grid["tenors"]]
    nodes = grid["nodes"]
    lines = [
        f"tenors from {days[0]:.0f} to {days[-1]:.0f} days, nodes from {nodes[0]:g} to {nodes[-1]:g} "
        f"({grid['convention']}): nothing is said beyond",
        f"markets: {', '.join(manifest.get('markets', ())) or 'not told apart'}",
        f"conditions that samples can be asked for: {', '.join(manifest['conditions']) or 'none'}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _metrics(subject: Subject) -> str:
    unit = "1 bp is 0.0001 of volatility; nats are of the density of decimal vols." if subject.of_surfaces else ""
    return (
        "Errors of completion and reconstruction on held-out data, coverage of the stated intervals, the evidence "
        "lower bound (ELBO), and how well a classifier tells samples from data. Each stands beside what it is measured "
        f"by: the best linear opponent, the noise of quotes, or the exact value where it is known. {unit}"
    ).rstrip()


def _source(subject: Subject) -> str:
    return subject.judged.facts["data"].partition(";")[0]


def _count(subject: Subject, split: str) -> str:
    number = subject.prepared.get(f"{split}_surfaces", subject.prepared.get(f"{split}_vectors"))
    things = "surfaces" if subject.of_surfaces else "vectors"
    return f"{number:,} {_SPLITS[split]} {things}" if number is not None else f"{_SPLITS[split]} {things}"


def _rejected(prepared: Mapping[str, Any]) -> str:
    """Rows and surfaces of the data that were left out, by reason."""
    found = {name: value for name, value in prepared.items() if "rejected" in name and value}
    rows = "".join(f"- {name.replace('_', ' ')}: {value:,}\n" for name, value in found.items())
    return f"\nLeft out:\n\n{rows}" if rows else ""


def _figures(main: Sequence[Card]) -> str:
    rows = "".join(f"| {card.what} | {card.figure} | {card.anchor or '-'} |\n" for card in main)
    return f"| figure | value | measured by |\n|---|---|---|\n{rows}".rstrip()


def _ethics(subject: Subject) -> str:
    if not subject.of_surfaces:
        return "What the vectors are of is known to who made the data; this card knows their source only."
    return (
        "The data are vols of a market, simulated or quoted, and hold nothing of persons. Losses are possible where a "
        "completed or sampled surface is taken for a quote: show its interval and its warning with it."
    )


def _caveats(subject: Subject) -> str:
    lines = [
        *subject.judged.reservations,
        *(
            [
                "a completion says by `warning` and `outside` that its quotes do not fit what the model learned; look "
                "at such a one before it is used",
                "a rare sample may have static arbitrage: `volvae arbitrage` counts it",
            ]
            if subject.of_surfaces
            else []
        ),
        "retrain when the data drift: the report compares the periods",
    ]
    return "".join(f"- {line}\n" for line in lines)
