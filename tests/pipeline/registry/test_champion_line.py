"""The line of champions against a plain stack, with a kill between the writes of each step."""

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.registry import champion_line

_step = st.tuples(st.sampled_from(["promote", "roll back"]), st.integers(1, 4), st.integers(1, 3))


@given(steps=st.lists(_step, max_size=40))
@example(steps=[("promote", 1, 3), ("promote", 2, 3), ("promote", 1, 1), ("roll back", 1, 2), ("promote", 1, 3)])
def test_the_way_back_is_a_stack_whatever_is_killed(steps: list[tuple[str, int, int]]) -> None:
    """Each step makes its writes in the order of the registry, and is killed after some of them."""
    tag, alias, stack = "", "0", ["0"]
    for kind, number, writes in steps:
        line = champion_line.read(tag, alias)
        assert list(line) == stack
        if kind == "promote" and str(number) != alias:
            tag = champion_line.write((*line, str(number)))
            if writes > 1:
                alias = str(number)
                stack.append(alias)
        elif kind == "roll back" and len(line) > 1:
            tag = champion_line.write(line)
            if writes > 1:
                alias = line[-2]
                stack.pop()
            if writes > 2:
                tag = champion_line.write(line[:-1])


@given(steps=st.lists(st.integers(1, 30), min_size=1))
def test_roll_backs_end(steps: list[int]) -> None:
    line: tuple[str, ...] = ()
    for number in map(str, steps):
        line = (*line, number) if not line or line[-1] != number else line
    for _ in range(len(line) - 1):
        line = champion_line.read(champion_line.write(line[:-1]), line[-2])
    assert line == (str(steps[0]),)


def test_a_line_fits_into_a_tag() -> None:
    line = [str(number) for number in range(5000)]
    tag = champion_line.write(line)
    assert len(tag) <= 4000
    assert champion_line.read(tag, "4999") == tuple(line[-len(tag.split(",")) :])
