"""Requests that a web page of another site makes a browser send, where no token keeps it from that.

A page can point a name of its own at this machine and then read what the server says, as the browser takes both for one
origin; the request then names a host that is not the server's. And it can have a form sent here, whose answer it may
not read, but which takes the server's time.

Reference: https://www.w3.org/TR/fetch-metadata/; OWASP, "DNS rebinding".
"""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

_OWN_SITES = (b"same-origin", b"none")  # a page of the server itself, and a person who types an address


@lru_cache(256)
def is_for(host: bytes, names: frozenset[str]) -> bool:
    """Whether a header Host names an address, this machine, or one of the names.

    >>> is_for(b"127.0.0.1:8000", frozenset()), is_for(b"[::1]", frozenset()), is_for(b"localhost", frozenset())
    (True, True, True)
    >>> is_for(b"evil.example:8000", frozenset()), is_for(b"127.0.0.1.evil.example", frozenset())
    (False, False)
    """
    try:
        name = (urlsplit(f"//{host.decode('ascii')}").hostname or "").rstrip(".")
        if name == "localhost" or name in names:
            return True
        ip_address(name)
    except ValueError:
        return False
    return True


def is_own(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request comes from a page of the server itself, or from no page.

    Browsers since 2023 say the site; older ones say the origin of a POST.
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None:
        return site in _OWN_SITES
    return origin is None or origin.partition(b"://")[2] == headers.get(b"host")
