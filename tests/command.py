"""The command volvae in this process, which starts in no time."""

from click.testing import CliRunner, Result

from pipeline.cli.main import main


def volvae(*arguments: object) -> Result:
    """The outcome of the command; an exception that it does not turn into a message goes through."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
