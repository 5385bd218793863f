"""Settings of the server from options and VOLVAE_* variables, and the values that are refused."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_args

import click
import pytest
from click.testing import CliRunner, Result

from deploy.server import run, settings
from deploy.server.settings import Settings
from pipeline.cli.main import main
from vae.runtime import Provider

_VALUES = {
    "host": "::1", "port": 9001, "workers": 3, "threads": 2, "provider": "cpu", "poll": 0.5, "queue": 7,
    "connections": 9, "max_body": 4096, "max_answer": 8192, "max_json": 2048, "max_count": 11, "deadline": 1.5,
    "receive": 2.5, "drain": 3.5, "grace": 4, "log_requests": True, "grpc_port": 9002, "hosts": "a.example,b.example",
    "challenger_share": 0.5, "challenger_answers": 0.25, "token": "a token",
}  # fmt: skip


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Settings with which servers would be started; none is."""
    found: list[Settings] = []
    monkeypatch.setattr(run, "run", lambda made, *, wait: found.append(made))  # noqa: PLW0108
    return found


def serve(*arguments: str, **environment: object) -> Result:
    variables = {f"VOLVAE_{name.upper()}": str(value) for name, value in environment.items()}
    return CliRunner(env=variables).invoke(main, ["serve", *arguments])


def test_every_setting_has_a_variable(started: list[Settings], tmp_path: Path) -> None:
    assert _VALUES.keys() == {field.name for field in dataclasses.fields(Settings)} - {"bundle", "challenger"}
    assert serve(model="some/where", challenger=tmp_path, **_VALUES).exit_code == 0
    (found,) = started
    folders = {"bundle": Path.cwd() / "some/where", "challenger": tmp_path}
    assert dataclasses.asdict(found) == {**folders, **_VALUES}
    defaults = Settings(Path("/"))
    assert all(getattr(defaults, name) != value for name, value in _VALUES.items()), (
        "or the test could not tell a value from a default"
    )


def test_a_challenger_must_be_there_and_be_compared_where_it_answers(started: list[Settings], tmp_path: Path) -> None:
    missing = serve("--challenger", "no/where")
    assert (missing.exit_code, started) == (2, [])
    assert "--challenger: there is no folder no/where" in missing.stderr
    blind = serve("--challenger", str(tmp_path), "--challenger-share", "0", "--challenger-answers", "0.1")
    assert blind.exit_code == 2
    assert "--challenger-answers needs a --challenger-share above 0" in blind.stderr


def test_every_setting_but_the_token_has_an_option_which_precedes_the_variable(started: list[Settings]) -> None:
    options = [
        part
        for name, value in _VALUES.items()
        if name != "token"
        for part in ([f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}", str(value)])
    ]
    assert serve(*options, queue=1, port=1, token="a token").exit_code == 0
    assert dataclasses.asdict(started[0]) == {"bundle": Path.cwd() / "artifacts/bundle", "challenger": None, **_VALUES}
    assert "No such option" in serve("--token", "secret").stderr  # others see the options of a process


def test_defaults_of_options_are_those_of_the_settings(started: list[Settings]) -> None:
    assert serve().exit_code == 0
    assert started == [Settings(Path.cwd() / "artifacts/bundle")]


def test_an_option_takes_its_name_default_and_help_from_its_field() -> None:
    @dataclasses.dataclass
    class Fields:
        no_option: int = 1
        some_seconds: Annotated[float, settings._Option("How long.", settings._Number(0.0, 2.0))] = 1.5
        quiet: Annotated[bool, settings._Option("Whether to be quiet.")] = False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "Settings", Fields)
        command = click.command(settings.options(lambda **values: click.echo(repr(values))))
    seconds, quiet = command.params
    assert (seconds.opts, seconds.default, seconds.help) == (["--some-seconds"], 1.5, "How long.")
    assert (quiet.opts, quiet.default, quiet.help) == (["--quiet"], False, "Whether to be quiet.")
    runner = CliRunner()
    assert runner.invoke(command, ["--quiet"]).output == "{'quiet': True, 'some_seconds': 1.5}\n"
    assert "2.1 is not in the range 0.0<=x<=2.0" in runner.invoke(command, ["--some-seconds", "2.1"]).output


def test_the_providers_are_those_of_the_runtime() -> None:
    assert tuple(settings._PROVIDERS.choices) == get_args(Provider)


@pytest.mark.parametrize("token", ["abc", "0123456789abcdef" * 8, "with space", '~!@#$%^&*()_+"'])
def test_tokens_that_a_header_can_hold_are_taken(started: list[Settings], token: str) -> None:
    assert serve(token=token).exit_code == 0
    assert started[0].token == token
    assert token not in repr(started[0])


@pytest.mark.parametrize("token", ["", " ", "\t", "a\n", "a\r\nb", "\x7f", "ü", " a", "a "])
def test_tokens_that_no_request_could_bear_are_one_line(started: list[Settings], token: str) -> None:
    result = serve(token=token)
    assert result.exit_code == 2
    assert result.stderr == "volvae: VOLVAE_TOKEN must be printable ASCII, not empty, without spaces around it\n"
    assert started == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "65536"), ("port", "-1"), ("workers", "0"), ("workers", "two"), ("threads", "-1"), ("queue", "0"),
        ("connections", "0"), ("max_body", "10"), ("max_json", "1e9"), ("provider", "tpu"), ("grace", "0.5"),
        ("log_requests", "perhaps"), *((name, bad) for name in ("poll", "deadline", "receive", "drain")
                                       for bad in ("nan", "inf", "-1", "soon")),
    ],
)  # fmt: skip
def test_bad_values_name_their_option(started: list[Settings], name: str, value: str) -> None:
    result = serve(**{name: value})
    assert result.exit_code == 2
    assert f"Invalid value for '--{name.replace('_', '-')}'" in result.stderr.splitlines()[-1]
    assert started == []


@pytest.mark.parametrize(
    ("host", "token", "expected"),
    [
        ("127.0.0.1", None, False),
        ("127.8.0.1", None, False),
        ("::1", None, False),
        ("localhost", None, False),
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("", None, True),
        ("192.0.2.1", None, True),
        ("example.com", None, True),
        ("0.0.0.0", "a", False),
    ],
)
def test_an_address_that_others_reach_is_open_without_a_token(host: str, token: str | None, *, expected: bool) -> None:
    assert Settings(Path("/"), host=host, token=token).open_to_others is expected


def test_what_python_warns_of_is_a_line_of_the_log() -> None:
    code = "import warnings; from deploy.server import logs; logs.configure(); warnings.warn('first\\nsecond')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = found.stderr.splitlines()
    assert json.loads(line)["level"] == "warning"
    assert "first" in json.loads(line)["message"]


def test_names_of_the_server_are_read_from_a_list() -> None:
    assert Settings(Path("/"), host="Vols", hosts=" A.example,,b ").host_names == {"vols", "a.example", "b"}
    assert Settings(Path("/")).host_names == {"127.0.0.1"}
