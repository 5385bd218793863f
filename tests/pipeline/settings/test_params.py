from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.settings.params import is_of_volvae, read_params
from pipeline.settings.types import Shares
from tests.workspace import Workspace


def test_the_projects_own_params_are_valid(root) -> None:
    grid = read_params(root / "params.yaml").prepare.grid.build()
    assert grid.shape == (18, 41)
    assert grid.tenors[0] < 7 / 365 < 1.0 < grid.tenors[-1]  # a week and a year are what people try first


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        (None, False),
        ("", False),
        ("lr: 0.1", False),
        ("[prepare, train]", False),
        ("prepare: {split: 0.2, seed: 1}\ntrain: {lr: 0.1}", False),  # as in the first steps with DVC
        ("prepare: {quotes: {}}", True),
        ("prepare: {source: hestn}", True),
        ("prepar: {source: heston}\nretrain: {}", True),
        ("lr: {{ lr }}\nprepare: {split: {{ share }}}", False),  # a template, which is not YAML
    ],
)
def test_settings_of_another_project_are_told_apart(tmp_path: Path, text: str | None, *, ours: bool) -> None:
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    assert is_of_volvae(path) is ours


@pytest.mark.parametrize("text", ["prepare:\n  quotes: {path: [}", "prepare: {source: heston]", "retrain: {when: [}"])
def test_settings_of_volvae_that_are_not_yaml_are_not_passed_over(tmp_path: Path, text: str) -> None:
    """They may say how a file is read, or when data drift."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"params\.yaml is not YAML: "):
        is_of_volvae(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train__epoch", 3, r"train\.epoch is not a key; did you mean epochs\? Allowed: seed, device, .*, conditions"),
        ("train__colour", 3, r"train\.colour is not a key; allowed: seed, device, precision, compiled, .*, conditions"),
        ("prepare__heston__v0__hi", 3, r"heston\.v0\.hi is not a key; did you mean high\? Allowed: low, high"),
        ("training", {}, r"training is not a key; did you mean train\? Allowed: prepare, train, evaluate, export"),
        ("train__Epochs", 3, r"train\.Epochs is not a key; did you mean epochs\? Allowed: seed"),
        ("Train", {}, r"Train is not a key; did you mean train\? Allowed: prepare, train, evaluate, export"),
        ("train__model", 3, r"train\.model: must hold keys with values, as 'key: value' or .* \(got 3\)"),
        ("train__latents", 3, r"train\.latents is not a key; did you mean train\.model\.latents\? Allowed: seed"),
        ("train__vol_unit", "bp", r"train\.vol_unit is not a key; did you mean prepare\.quotes\.vol_unit\? Allowed"),
        ("prepare__grid__nodes__stp", 3, r"grid\.nodes\.stp is not a key; did you mean stop\? Allowed: start, stop"),
        ("train__epochs", 0, r"train\.epochs: Input should be greater than or equal to 1 \(got 0\)"),
        ("train__epochs", None, r"train\.epochs: Field required"),
        ("train__learning_rate", "1e-3", r"train\.learning_rate: Input should be a valid number \(got '1e-3'\)"),
        ("train__device", "gpu", r"train\.device: Input should be 'auto', 'cpu' or 'cuda' \(got 'gpu'\)"),
        ("train__model__latents", 13, r"train\.model: latents \(13\) must not exceed basis \(12\)"),
        ("train__model__basis", 28, r"train\.model\.basis \(28\) must not exceed the 27 points of prepare\.grid"),
        ("train__model__transform", "sqrt", r"train\.model\.transform: Input should be 'none' or 'log' \(got 'sqrt'\)"),
        ("train__dynamics", {}, r"train: dynamics moves the logarithms of vols: model\.transform must be log"),
        ("train__hidden_share", 1.5, r"train\.hidden_share: Input should be less than or equal to 1 \(got 1\.5\)"),
        (
            "train__scaffold_latents",
            10,
            r"model\.latents and scaffold_latents \(13\) must not exceed model\.basis \(12\)",
        ),
        ("train__importance_samples", 0, r"train\.importance_samples: Input should be greater than or equal to 1"),
        ("train__prior__components", [], r"train\.prior\.components: List should have at least 1 item"),
        ("evaluate__importance_samples", [1, 10, 15], r"each must be a multiple of the one before, not 10, 15"),
        ("evaluate__importance_samples", [1], r"importance_samples must end in 2 or more"),
        ("train__batch", 257, r"train\.batch \(257\) must not exceed prepare\.surfaces\.train \(256\)"),
        ("prepare__grid__tenors_days", [30, 10], r"prepare\.grid: tenors must be finite and increasing"),
        ("prepare__grid__tenors_days", [-1, 10], r"prepare\.grid\.tenors_days\.0: Input should be greater than 0"),
        ("prepare__grid__nodes__stop", -1.0, r"prepare\.grid: nodes must be finite and increasing"),
        ("prepare__grid__convention", "strike", r"prepare\.grid\.convention: Input should be 'log_moneyness'"),
        ("prepare__heston__rho__low", -1.0, r"prepare\.heston: rho must stay inside \(-1, 1\)"),
        ("prepare__heston__kappa__low", 0.0, r"prepare\.heston: kappa\.low must be above 0"),
        ("prepare__heston__v0__low", 1.0, r"prepare\.heston\.v0: low \(1\) must be below high \(0\.16\)"),
        ("prepare__quote_noise_bp", -1.0, r"prepare\.quote_noise_bp: Input should be greater than or equal to 0"),
        (
            "prepare__source",
            "market",
            r"prepare\.source: Input should be 'heston', 'heston_paths', 'quotes' or 'array' \(got 'market'\)",
        ),
        ("prepare__source", "quotes", r"prepare\.quotes: Field required where prepare\.source is quotes"),
        ("prepare__source", "array", r"prepare\.array: Field required where prepare\.source is array"),
        ("prepare__heston", None, r"prepare\.heston: Field required where prepare\.source is heston"),
        ("prepare__quotes", {"path": "q.csv"}, r"prepare\.quotes\.columns: Field required"),
        ("prepare__quote", {}, r"prepare\.quote is not a key; did you mean quotes\? Allowed: seed, .*, array, source"),
        ("register__gate__decode_ms", 0.0, r"register\.gate\.decode_ms: Input should be greater than 0"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(workspace: Workspace, key: str, value: Any, message: str) -> None:
    workspace.set(**{key: value})
    with pytest.raises(InputError, match=message) as caught:
        workspace.params()
    assert "\n" not in str(caught.value)


def test_all_faults_are_reported_at_once(workspace: Workspace) -> None:
    workspace.set(train__epochs=0, evaluate__seed=-1)
    with pytest.raises(InputError, match=r"train\.epochs.*; evaluate\.seed"):
        workspace.params()


def test_a_misspelt_key_is_not_reported_as_missing_too(workspace: Workspace) -> None:
    workspace.set(train__epochs=None, train__epoch=3, prepare__seed=None, prepare__sede=1)
    with pytest.raises(InputError) as caught:
        workspace.params()
    assert "Field required" not in str(caught.value)
    assert "prepare.sede is not a key; did you mean seed?" in str(caught.value)


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2\n", "", "- 1\n", "[" * 100_000, "a: 2020-13-45"])
def test_what_is_not_a_mapping_in_yaml_is_refused(workspace: Workspace, text: str) -> None:
    (workspace.folder / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"params\.yaml") as caught:
        workspace.params()
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout has the default file, and none that a user named wrongly."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^there is no params\.yaml; run this in a checkout of volvae, which has"):
        read_params()
    with pytest.raises(InputError, match=r"^there is no typo\.yaml$"):
        read_params(Path("typo.yaml"))


def test_the_source_is_heston_where_none_is_named(workspace: Workspace) -> None:
    workspace.set(prepare__source=None)
    assert workspace.params().prepare.source == "heston"


@pytest.mark.parametrize(
    ("shares", "count", "sizes"),
    [
        ((0.7, 0.15, 0.15), 20, [14, 3, 3]),
        ((1.0, 0.0, 0.0), 1, [1, 0, 0]),
        ((0.7, 0.15, 0.15), 1, [1, 0, 0]),
        ((0.0, 0.0, 1.0), 7, [0, 0, 7]),
        ((0.1, 0.2, 0.7), 7, [1, 1, 5]),
    ],
)
def test_shares_split_everything_without_overlap(shares: tuple[float, ...], count: int, sizes: list[int]) -> None:
    stretches = Shares(train=shares[0], validation=shares[1], test=shares[2]).stretches(count)
    rows = [list(range(count))[stretch] for stretch in stretches.values()]
    assert [len(part) for part in rows] == sizes
    assert [row for part in rows for row in part] == list(range(count))


def test_nodes_may_be_a_list(workspace: Workspace) -> None:
    workspace.set(prepare__grid__nodes=[-0.3, 0.0, 0.1, 0.2])
    assert workspace.params().prepare.grid.build().nodes.tolist() == [-0.3, 0.0, 0.1, 0.2]
