"""The history of a model: who made which version champion, when and why. Each entry holds the hash of the one before.

An entry is a tag of the model, ``volvae.history.NUMBER``. The alias and the tag cannot be written in one step. So the
entry is announced first, in the tag ``volvae.history``; then the alias moves; then the entry is written. An announced
entry counts if the alias names its version, and so a kill at any point leaves a history that is right. The announcement
stays, and tells later whether the last entries were removed.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pipeline.errors import StageError

ANNOUNCED = "volvae.history"  # tag of the model
PROMOTED, ROLLED_BACK = "promoted", "rolled back"
FOUND = "found"  # a champion that was made by other means, or before there was a history
_LONGEST = 300  # letters of a reason; a tag has at most 5000, and a letter may take twelve


class Entry(NamedTuple):
    """One change of the champion.

    Attributes:
        number: from 1.
        time: in UTC, as ISO 8601 writes it.
        action: ``PROMOTED``, ``ROLLED_BACK`` or ``FOUND``.
        version: that became champion.
        former: that was champion before; empty where there was none.
        who: user and machine.
        reason: why, in one line.
        previous: sha256 of the text of the entry before; empty for the first.
    """

    number: int
    time: str
    action: str
    version: str
    former: str
    who: str
    reason: str
    previous: str

    @property
    def text(self) -> str:
        """As it is kept: JSON of one spelling."""
        return json.dumps(self._asdict(), sort_keys=True, separators=(",", ":"))


class BrokenError(StageError):
    """A history that was changed."""


def tag(number: int) -> str:
    """Name of the tag of an entry."""
    return f"{ANNOUNCED}.{number}"


def texts(tags: Mapping[str, str], champion: str) -> dict[int, str]:
    """The entries as they are kept, by number, and the announced one if it took effect.

    Args:
        tags: of the model.
        champion: number of the version that the alias names; empty where there is none.
    """
    numbers = {name: name.removeprefix(f"{ANNOUNCED}.") for name in tags}
    found = {int(number): tags[name] for name, number in numbers.items() if number != name and number.isdecimal()}
    announced = _parsed(tags.get(ANNOUNCED, ""))
    if announced and announced.number == max(found, default=0) + 1 and announced.version == champion:
        found[announced.number] = announced.text
    return found


def following(known: Mapping[int, str], action: str, version: str, *, who: str, reason: str) -> Entry:
    """The next entry, made now; where the clock was put back, at the time of the last one."""
    number = max(known, default=0)
    last = _parsed(known.get(number, ""))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Entry(
        number=number + 1,
        time=max(now, last.time) if last else now,
        action=action,
        version=version,
        former=last.version if last else "",
        who=who,
        reason=" ".join(reason.encode("utf-8", "replace").decode().split())[:_LONGEST],
        previous=_hash(known[number]) if number else "",
    )


def ends_with(known: Mapping[int, str], champion: str) -> bool:
    """Whether the last entry says that this version is champion."""
    last = _parsed(known[max(known)]) if known else None
    return last is not None and last.version == champion


def checked(tags: Mapping[str, str], champion: str) -> tuple[Entry, ...]:
    """All entries, from the first.

    Args:
        tags: of the model.
        champion: number of the version that the alias names; empty where there is none.

    Raises:
        BrokenError: an entry was changed, removed, added or put at another place; the message names the first.
    """
    known = texts(tags, champion)
    found = [_whole(known, number) for number in range(1, max(known, default=0) + 1)]
    for number in range(2, len(found) + 1):
        former, entry = found[number - 2 : number]
        if entry.previous != _hash(known[number - 1]):
            # One of the two was changed. If the entry after them does not follow from the second either, it is that.
            after = found[number].previous if number < len(found) else _hash(tags.get(ANNOUNCED, ""))
            raise _broken(number if after != _hash(known[number]) else number - 1, "was changed")
        if entry.time < former.time or entry.former != former.version:
            raise _broken(number, "does not follow from the one before")
    _check_end(found, tags, champion)
    return tuple(found)


def _whole(known: Mapping[int, str], number: int) -> Entry:
    if number not in known:
        raise _broken(number, "is missing")
    entry = _parsed(known[number])
    if entry is None:
        raise _broken(number, "was changed")
    if entry.number != number:
        raise _broken(number, f"stands where it does not belong: it is entry {entry.number}")
    return entry


def _check_end(found: Sequence[Entry], tags: Mapping[str, str], champion: str) -> None:
    """Hold the end of the history to the announcement of its last entry and to the champion."""
    announced = _parsed(tags.get(ANNOUNCED, ""))
    count = len(found)
    if announced is None:
        if found or ANNOUNCED in tags:
            raise _broken(count + 1, "may have been removed: the announcement of the last entry was")
        return
    if announced.number <= count and announced != found[announced.number - 1]:
        raise _broken(announced.number, "was changed")
    if announced.number < count:
        raise _broken(announced.number + 1, "was added")
    if announced.number > count + 1:
        raise _broken(count + 1, "is missing")
    last = found[-1].version if found else ""
    if last != champion:
        raise _broken(
            count + 1,
            f"is missing, or the alias was moved by other means: {f'version {champion}' if champion else 'no version'} "
            f"is champion, and the last entry says {f'version {last}' if last else 'nothing'}; `volvae promote` or "
            f"`volvae rollback` goes on from there and notes it",
        )


def champion_at(entries: Sequence[Entry], moment: datetime) -> Entry | None:
    """The entry that made the version which was champion at a moment; None before the first."""
    return next((entry for entry in reversed(entries) if _time(entry.time) <= moment), None)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _parsed(text: str) -> Entry | None:
    """The entry of a text; None where it is none, or spelt otherwise."""
    try:
        entry = Entry(**json.loads(text))
        _time(entry.time)
        return entry if entry.text == text and type(entry.number) is int else None
    except (ValueError, TypeError, RecursionError):
        return None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _broken(number: int, fault: str) -> BrokenError:
    return BrokenError(f"the history is broken: entry {number} {fault}")
