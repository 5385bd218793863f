"""What a test registers."""

from pathlib import Path

from pipeline.registry import registry
from pipeline.registry.mlflow_store import Record
from vae.bundle import DECODER


def record(bundle: Path, content: str) -> Record:
    return Record(
        content=content, parameters={"train.seed": 7}, metrics={"evaluate/elbo_nats": 1.0},
        tags={"git.commit": "none", **registry.manifest_tag(bundle)}, datasets={"data/surfaces": "0" * 32 + ".dir"},
        artifacts={bundle: registry.BUNDLE}, texts={"lineage/params.yaml": "text"}, decoder=bundle / DECODER,
    )  # fmt: skip
