"""Numbers of the command line: none of them may be nan, which passes every range of click's."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from pipeline.cli.common import Finite
from pipeline.cli.main import main


def options(command: click.Command) -> Iterator[tuple[str, click.ParamType]]:
    """Each option of a command and of those below it, with its type."""
    for option in command.params:
        yield f"{command.name} {option.name}", option.type
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            assert below is not None
            yield from options(below)


NUMBERS = dict(pair for pair in options(main) if isinstance(pair[1], click.FloatRange | type(click.FLOAT)))


def test_the_options_of_all_commands_are_found() -> None:
    assert {"risk spot", "complete elapsed"} <= NUMBERS.keys()


@pytest.mark.parametrize("number", ["inf", "nan"])
def test_a_command_refuses_what_is_no_finite_number(number: str) -> None:
    refused = CliRunner().invoke(main, ["risk", "book.csv", "--spot", number])
    assert refused.exit_code == 2
    assert f"'--spot': {number} is not a finite number" in refused.stderr


@pytest.mark.parametrize("name", ["rate", "dividend-yield"])
def test_a_rate_in_percent_is_refused(name: str) -> None:
    refused = CliRunner().invoke(main, ["risk", "book.csv", "--spot", "100", f"--{name}", "3"])
    assert refused.exit_code == 2
    assert "3.0 is not in the range -1.0<=x<=1.0" in refused.stderr


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_of_a_command_is_nan(name: str) -> None:
    with pytest.raises(click.BadParameter):
        NUMBERS[name].convert("nan", None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "1 000"])
def test_what_is_no_finite_number_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Finite().convert(text, None, None)


def test_a_range_holds_for_finite_numbers() -> None:
    assert Finite(min=0.0, min_open=True).convert("0.5", None, None) == 0.5
    with pytest.raises(click.BadParameter, match="not in the range"):
        Finite(min=0.0, min_open=True).convert("0", None, None)


def test_a_number_of_any_size_has_no_range_in_the_help() -> None:
    assert "None" not in CliRunner().invoke(main, ["complete", "--help"]).output
