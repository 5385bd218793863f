"""The record of a model's champions: the alias of the present one, the line of all, and the history of changes.

The line and the history are tags of the registered model, and each is written so that a kill between two writes leaves
what can be read: see ``champion_line.py`` and ``history.py``.
"""

from collections.abc import Mapping, Sequence

from pipeline.registry import champion_line, history, mlflow_store
from pipeline.registry.mlflow_store import Store

ALIAS = "champion"
_LINE = "volvae.champions"
_SUCCEEDS = "volvae.succeeds"  # of a champion, where the model has no line yet: the number of the one before


class ChampionRecord:
    """The champions of one registered model of one store."""

    def __init__(self, store: Store, model: str) -> None:
        self._store, self._model = store, model

    def history(self) -> tuple[history.Entry, ...]:
        """All changes of the champion, from the first.

        Raises:
            StageError: an entry was changed, removed, added or put at another place.
        """
        return history.checked(*self._tags())

    def settled(self) -> dict[int, str]:
        """The history, which ends with the present champion: it is written where that is not yet so."""
        tags, champion = self._tags()
        known = history.texts(tags, champion)
        if known and history.tag(max(known)) not in tags:  # a kill came before it was written
            self._tag(history.tag(max(known)), known[max(known)])
        if champion and not history.ends_with(known, champion):
            entry = history.following(known, history.FOUND, champion, who="", reason="not promoted by volvae")
            self._tag(history.ANNOUNCED, entry.text)
            self._tag(history.tag(entry.number), entry.text)
            known[entry.number] = entry.text
        return known

    def move(self, known: Mapping[int, str], action: str, number: str, reason: str) -> None:
        """Move the alias to a version, with the entry of the history announced before and written after.

        Args:
            known: the history, as ``settled`` gives it.
            action: of the entry.
            number: of the version.
            reason: for the entry.
        """
        entry = history.following(known, action, number, who=mlflow_store.user(), reason=reason)
        self._tag(history.ANNOUNCED, entry.text)
        self._store.client.set_registered_model_alias(self._model, ALIAS, number)
        self._tag(history.tag(entry.number), entry.text)

    def line(self, champion: str) -> tuple[str, ...]:
        """Numbers of all champions, from the first to the present one, whose number is given."""
        tag = self._tags()[0].get(_LINE)
        return champion_line.read(self._line_of_predecessors(champion) if tag is None else tag, champion)

    def keep_line(self, line: Sequence[str]) -> None:
        """Write the line in place of the one before."""
        self._tag(_LINE, champion_line.write(line))

    def _line_of_predecessors(self, champion: str) -> str:
        """The line of a model that has none yet, as each champion named the one before it."""
        line: list[str] = []
        number: str | None = champion
        while number is not None and number not in line:
            found = self._store.find_version(self._model, number)
            if found is None:  # deleted since
                break
            line.append(number)
            number = found.tags.get(_SUCCEEDS)
        return champion_line.write(line[::-1])

    def _tags(self) -> tuple[Mapping[str, str], str]:
        """The tags of the model, and the number of the champion at the same time; empty where there is none."""
        found = self._store.find_model(self._model)
        return (found.tags, str(found.aliases.get(ALIAS, ""))) if found else ({}, "")

    def _tag(self, name: str, text: str) -> None:
        self._store.client.set_registered_model_tag(self._model, name, text)
