"""A group of commands whose help lists them by what people do."""

from collections.abc import Iterable

import click


class Sections(click.Group):
    """A group whose commands stand under titles, in the order in which they were added."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # what click's own decorator passes
        self._sections: dict[str, list[click.Command]] = {}

    def add_section(self, title: str, commands: Iterable[click.Command]) -> None:
        """Add commands under a title."""
        self._sections[title] = list(commands)
        for command in self._sections[title]:
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands of each section with their summaries, all in the same columns."""
        widest = max(len(name) for name in self.list_commands(ctx))
        room = formatter.width - widest - 4  # two columns before the name, and two behind it
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{command.name:{widest}}", command.get_short_help_str(room)) for command in commands]
                )
