"""The history of champions: kills between its writes, and changes by somebody else."""

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.main import main as cli
from pipeline.registry import history, mlflow_store, registry
from pipeline.registry.history import ANNOUNCED, FOUND, PROMOTED, BrokenError, Entry, champion_at, checked, tag
from pipeline.registry.registry import Registry
from tests.records import record

_step = st.tuples(st.integers(1, 4).map(str), st.integers(0, 3), st.booleans())


class Model:
    """The tags and the alias of a model, as the registry writes them."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.champion = ""

    def settle(self) -> dict[int, str]:
        known = history.texts(self.tags, self.champion)
        if known:
            self.tags[tag(max(known))] = known[max(known)]
        if self.champion and not history.ends_with(known, self.champion):
            entry = history.following(known, FOUND, self.champion, who="", reason="")
            self.tags[ANNOUNCED] = self.tags[tag(entry.number)] = known[entry.number] = entry.text
        return known

    def promote(self, version: str, *, writes: int = 3) -> bool:
        """Make the first writes of a promotion; whether the alias moved."""
        known = self.settle()
        if version == self.champion:
            return False
        entry = history.following(known, PROMOTED, version, who="me", reason=f"step\n{len(known)}")
        if writes > 0:
            self.tags[ANNOUNCED] = entry.text
        if writes > 1:
            self.champion = version
        if writes > 2:
            self.tags[tag(entry.number)] = entry.text
        return writes > 1

    def entries(self) -> tuple[Entry, ...]:
        return checked(self.tags, self.champion)


def filled(*versions: str) -> Model:
    model = Model()
    for version in versions:
        assert model.promote(version)
    return model


@given(steps=st.lists(_step, max_size=30))
def test_a_kill_between_the_writes_leaves_each_move_of_the_alias_once(steps: list[tuple[str, int, bool]]) -> None:
    """And a move by other means is noted by the next promotion."""
    model, moved = Model(), []
    for version, writes, by_other_means in steps:
        if by_other_means and version != model.champion:
            model.settle()
            model.tags.pop(ANNOUNCED, None)  # so that what was announced and not done is not what was done now
            if model.tags:
                number = max(int(name.rpartition(".")[2]) for name in model.tags)
                model.tags[ANNOUNCED] = model.tags[tag(number)]
            model.champion = version
            moved.append((FOUND, version))
            model.settle()
        elif model.promote(version, writes=writes):
            moved.append((PROMOTED, version))
    assert [(entry.action, entry.version) for entry in model.entries()] == moved
    assert [entry.former for entry in model.entries()] == ["", *(version for _, version in moved)][: len(moved)]


def edit(**fields: object) -> Callable[[dict[str, str], int], int]:
    def change(tags: dict[str, str], number: int) -> int:
        entry = Entry(**json.loads(tags[tag(number)]))
        tags[tag(number)] = entry._replace(**fields).text
        return number

    return change


def remove(tags: dict[str, str], number: int) -> int:
    del tags[tag(number)]
    return number


def swap(tags: dict[str, str], number: int) -> int:
    one, two = tag(number), tag(number + 1)
    tags[one], tags[two] = tags[two], tags[one]
    return number


def respell(tags: dict[str, str], number: int) -> int:
    tags[tag(number)] = json.dumps(json.loads(tags[tag(number)]))
    return number


def repeat(tags: dict[str, str], number: int) -> int:
    tags[tag(number)] = tags[tag(number + 1)]
    return number


CHANGES = {
    "version": edit(version="9"), "time": edit(time="2026-01-01T00:00:00+00:00"), "who": edit(who="you"),
    "reason": edit(reason="better"), "action": edit(action="rolled back"), "former": edit(former="9"),
    "previous": edit(previous="0" * 64), "text": lambda tags, n: tags.update({tag(n): "{}"}) or n, "removed": remove,
    "swapped": swap, "spelling": respell, "repeated": repeat,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, n) for name in CHANGES for n in range(1, 6) if n < 5 or name not in ("swapped", "repeated")],
)
def test_a_change_names_the_first_entry_that_is_wrong(name: str, number: int) -> None:
    model = filled("1", "2", "3", "2", "4")
    first = CHANGES[name](model.tags, number)
    if (name, number) == ("removed", 5):  # it is announced still, and so not lost
        assert [entry.version for entry in model.entries()] == ["1", "2", "3", "2", "4"]
        return
    with pytest.raises(BrokenError, match=f"^the history is broken: entry {first} ") as found:
        model.entries()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 4])
def test_the_removal_of_the_last_entries_is_shown(kept: int) -> None:
    """With their announcement too, and where the version before is champion again."""
    for announcement in ("kept", "removed", "put back"):
        model = filled("1", "2", "3", "4", "5")
        for number in range(kept + 1, 6):
            del model.tags[tag(number)]
        if announcement == "removed":
            del model.tags[ANNOUNCED]
        elif announcement == "put back" and kept:
            model.tags[ANNOUNCED] = model.tags[tag(kept)]
        if (kept, announcement) in ((4, "kept"),):
            assert len(model.entries()) == 5
            continue
        if (kept, announcement) == (0, "removed"):
            assert model.entries() == ()  # all is gone, as before the first promotion
            continue
        with pytest.raises(BrokenError, match=f"entry {kept + 1} "):
            model.entries()


def test_an_entry_that_was_added_is_shown() -> None:
    model = filled("1", "2")
    entry = history.following(history.texts(model.tags, "2"), PROMOTED, "3", who="me", reason="")
    model.tags[tag(3)] = entry.text
    with pytest.raises(BrokenError, match="entry 3 was added"):
        model.entries()


def test_an_alias_that_was_moved_by_other_means_is_said() -> None:
    model = filled("1", "2")
    model.champion = "1"
    with pytest.raises(BrokenError, match=r"entry 3 is missing, or the alias was moved by other means: version 1 is"):
        model.entries()
    model.promote("3")
    assert [(entry.action, entry.version) for entry in model.entries()][2:] == [(FOUND, "1"), (PROMOTED, "3")]


def test_which_version_was_champion_at_a_time() -> None:
    noon = datetime(2026, 11, 27, 12, tzinfo=UTC)
    times = [noon, noon + timedelta(minutes=123), noon + timedelta(minutes=123)]
    entries = [
        Entry(number, time.isoformat(timespec="seconds"), PROMOTED, str(number), "", "me", "", "")
        for number, time in enumerate(times, 1)
    ]
    for moment, version in (
        (noon - timedelta(microseconds=1), None), (noon, "1"), (noon + timedelta(minutes=122, seconds=59), "1"),
        (noon + timedelta(minutes=123), "3"), (datetime.fromisoformat("2026-11-27T16:02+02:00"), "1"),
        (datetime.fromisoformat("2026-11-27T16:03+02:00"), "3"),
    ):  # fmt: skip
        found = champion_at(entries, moment)
        assert (found and found.version) == version


def test_time_does_not_go_back_where_the_clock_was_put_back() -> None:
    model = filled("1")
    later = "2999-01-01T00:00:00+00:00"
    entry = Entry(**json.loads(model.tags[tag(1)]))._replace(time=later)
    model.tags[ANNOUNCED] = model.tags[tag(1)] = entry.text
    model.promote("2")
    assert [entry.time for entry in model.entries()] == [later, later]


def test_a_reason_is_one_line_of_bounded_length() -> None:
    """Also of letters that are long, or none, as of a shell's bytes."""
    entry = history.following({}, PROMOTED, "1", who="me" * 100, reason="a\n b\t\udc80" + "\N{GRINNING FACE}" * 5000)
    assert entry.reason.startswith("a b ?\N{GRINNING FACE}")
    assert len(entry.text) < 5000


@pytest.mark.slow
def test_the_registry_keeps_who_made_which_version_champion_and_why(own_registry: Path, linear_bundle: Path) -> None:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments)

    def opened() -> contextlib.AbstractContextManager[Registry]:
        return registry.opened(model="volvae", experiment="volvae")

    assert "volvae has no history" in call("history").stderr
    with opened() as models:
        for name in "ab":
            models.register(record(linear_bundle, name))
        assert "the first promotion begins one" in call("history").stderr
        models.judge(models.find("1"), accepted=True, reason="all checks passed", tags={})
        models.judge(models.find("2"), accepted=False, reason="too slow", tags={})
    assert call("promote", "1", "--reason", "first\nof all").exit_code == 0
    assert call("promote", "2", "--force").exit_code == 0
    assert call("rollback").exit_code == 0
    with opened() as models:
        entries = models.history()
        assert [entry[2:5] for entry in entries] == [
            (PROMOTED, "1", ""), (PROMOTED, "2", "1"), (history.ROLLED_BACK, "1", "2"),
        ]  # fmt: skip
        assert [entry.reason for entry in entries] == ["first of all", "although the gate refused it: too slow", ""]
        assert {entry.who for entry in entries} == {mlflow_store.user()}
    at = call("history", "--at", "2999-01-01", "--json")
    assert json.loads(at.stdout) == [entries[-1]._asdict()]
    assert call("history").stdout.splitlines()[0].endswith(f"version 1 promoted by {entries[0].who} (first of all)")
    assert "the history begins at" in call("history", "--at", "1999-01-01T12:00+02:00").stderr
    assert "--at is 'noon'; allowed: a time such as" in call("history", "--at", "noon").stderr

    with opened() as models:
        models._champions._tag(tag(2), entries[1]._replace(who="you").text)
    broken = call("history", "--at", "2999-01-01")
    assert (broken.exit_code, broken.stderr) == (1, "volvae: the history is broken: entry 2 was changed\n")
    assert call("promote", "2", "--force").exit_code == 0  # nobody is kept from a promotion
    assert call("history").stderr == broken.stderr
