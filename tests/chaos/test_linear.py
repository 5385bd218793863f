"""The search for an order of operations agrees with trying all orders, and accepts what one process could have done."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from chaos.linear import Line, Operation, applied, order

START: Line = ("1", "2")


def read(answer: str, start: int, end: int) -> Operation:
    return Operation("read", "", (answer,), start, end)


def promote(version: str, before: str, start: int, end: int) -> Operation:
    return Operation("promote", version, (before,), start, end)


def rollback(answer: tuple[str, ...], start: int, end: int) -> Operation:
    return Operation("rollback", "", answer, start, end)


def test_a_reader_may_see_a_promotion_that_is_under_way_but_not_lose_it_again() -> None:
    promotion = [promote("3", "2", 0, 10)]
    assert order([promotion, [read("3", 1, 2)]], START) is not None
    assert order([promotion, [read("2", 1, 2), read("3", 3, 4)]], START) is not None
    assert order([promotion, [read("3", 1, 2), read("2", 3, 4)]], START) is None
    assert order([promotion, [read("2", 11, 12)]], START) is None


def test_two_roll_backs_from_one_champion_have_no_order() -> None:
    """Both were answered, and the line lost one version only."""
    both = [[rollback(("3", "2"), 0, 10)], [rollback(("3", "2"), 1, 9)]]
    assert order(both, ("1", "2", "3")) is None
    assert order([both[0], [rollback(("2", "1"), 1, 9)]], ("1", "2", "3")) is not None


def test_a_promotion_that_a_roll_back_does_not_know_has_no_order() -> None:
    history = [[promote("3", "2", 0, 1)], [promote("1", "3", 2, 3), rollback(("1", "2"), 4, 5)]]
    assert order(history, START) is None


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[list[Operation]], bool]:
    """Few operations of three processes, whose answers are those of an order within their times, or some other ones."""
    drawn = random.Random(draw(st.integers(0, 2**32)))
    processes: list[list[Operation]] = [[], [], []]
    busy, line = [0, 0, 0], START
    for moment in range(10, 10 * draw(st.integers(2, 7)), 10):
        who = drawn.randrange(3)
        kind = drawn.choice(("read", "promote", "rollback"))
        asked = Operation(kind, drawn.choice("123") if kind == "promote" else "", (), 0, 0)
        line, answer = applied(line, asked)
        start = drawn.randint(busy[who] + 1, moment)
        busy[who] = moment + drawn.randint(0, 9)  # before the next moment, at which it may start its next one
        processes[who].append(asked._replace(answer=answer, start=start, end=busy[who]))
    kept = drawn.random() < 0.5
    if not kept:
        operations = [(k, i) for k, done in enumerate(processes) for i in range(len(done))]
        k, i = drawn.choice(operations)
        processes[k][i] = processes[k][i]._replace(answer=tuple(drawn.choice("123") for _ in processes[k][i].answer))
    return processes, kept


def by_trying_all(processes: list[list[Operation]], line: Line) -> bool:
    """Whether one of all orders explains the answers."""
    operations = [operation for done in processes for operation in done]
    return any(explains(candidate, line) for candidate in itertools.permutations(operations))


def explains(candidate: tuple[Operation, ...], line: Line) -> bool:
    if any(b.end < a.start for a, b in itertools.combinations(candidate, 2)):
        return False
    for operation in candidate:
        line, answer = applied(line, operation)
        if answer != operation.answer:
            return False
    return True


@given(histories())
def test_the_search_agrees_with_trying_all_orders(drawn: tuple[list[list[Operation]], bool]) -> None:
    processes, kept = drawn
    found = order(processes, START)
    assert (found is not None) == by_trying_all(processes, START)
    if kept:
        assert found is not None
    if found is not None:
        assert explains(tuple(found), START)
