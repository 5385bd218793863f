"""The line of champions: the versions that were champion one after the other, from the first to the present one.

The alias says which version is champion; the line, a tag, says where a roll-back leads. Both cannot be written in one
step, so that the line may be ahead of the alias after a kill, and is cut back to it when it is read: at the last place
where the champion stands. A roll-back writes the line as it was read before it moves the alias, because the former
champion may stand twice in a line that is ahead: in 1,2,1 with champion 2.
"""

from collections.abc import Sequence

_LONGEST = 4000  # letters of a tag; a store keeps 5000


def read(tag: str, champion: str) -> tuple[str, ...]:
    """The line that ends with the present champion.

    A champion that the line does not have was made by other means, and goes on from it.

    >>> read("1,2,3", "3")
    ('1', '2', '3')
    >>> read("1,2,3", "2")
    ('1', '2')
    >>> read("1,2", "7")
    ('1', '2', '7')
    """
    line = tuple(number for number in tag.split(",") if number)
    if champion not in line:
        return (*line, champion)
    return line[: len(line) - line[::-1].index(champion)]


def write(line: Sequence[str]) -> str:
    """The tag of a line; of a very long one the oldest versions are left out.

    >>> write(["1", "2", "1"])
    '1,2,1'
    """
    text = ",".join(line)
    return text if len(text) <= _LONGEST else text[-_LONGEST:].partition(",")[2]
