"""Words in the name of a column: what it names, and the unit of its numbers."""

import re


def plain(name: str) -> str:
    """A name without case, blanks, signs and the word that says percent.

    >>> plain("[STRIKE_Price ]"), plain("IV_percent")
    ('strikeprice', 'iv')
    """
    letters = "".join(letter for letter in name.casefold() if letter.isalnum())
    return letters.removesuffix("percent").removesuffix("pct") or letters


def says_percent(name: str) -> bool:
    """Whether a column's name says that its numbers are percent.

    >>> [says_percent(name) for name in ("IV (%)", "IV [%]", "iv_pct", "iv", "90%", "90 %")]
    [True, True, True, False, False, False]
    """
    return re.search(r"[^\W\d_][\s_]*[(\[]?%[)\]]?$|[_ ]\(?(percent|pct)\)?$", name.strip(), re.IGNORECASE) is not None
