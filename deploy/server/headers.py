"""Headers of every answer that tell a browser what it may do with it: no frames, no guessed types, no copies on disk.

Reference: Content Security Policy Level 3, https://www.w3.org/TR/CSP3/; Fetch, https://fetch.spec.whatwg.org.
"""

from typing import Final

Headers = tuple[tuple[bytes, bytes], ...]

_NO_GUESSES: Final = (b"x-content-type-options", b"nosniff")
_KEEP_NOTHING: Final = (b"cache-control", b"no-store")
_ASK_AGAIN: Final = (b"cache-control", b"no-cache")  # of the package's own code: kept, used if it did not change
_NOTHING_RUNS: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# The pages need nothing from elsewhere; Plotly writes styles and images into the page.
_OWN_CODE_RUNS: Final = (
    b"content-security-policy",
    b"default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)

ANSWER: Final[Headers] = (_NO_GUESSES, _KEEP_NOTHING, _NOTHING_RUNS)  # few, as each costs a microsecond
_PAGE: Final[Headers] = (_NO_GUESSES, _KEEP_NOTHING, _OWN_CODE_RUNS)
_CODE: Final[Headers] = (_NO_GUESSES, _ASK_AGAIN, _OWN_CODE_RUNS)
_PAGES: Final = frozenset({"/", "/reference", "/explorer/index.html", "/explorer/reference.html"})
BELOW_EXPLORER: Final = "/explorer/"


def of(path: str) -> Headers:
    """The headers of an answer to a request for this path."""
    if path in _PAGES:
        return _PAGE
    return _CODE if path.startswith(BELOW_EXPLORER) else ANSWER
