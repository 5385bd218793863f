"""The token that requests must bear."""

import hmac


def bears(token: bytes, authorization: bytes) -> bool:
    """Whether a header Authorization has the token, compared in a time that tells nothing of it.

    >>> bears(b"secret", b"Bearer secret"), bears(b"secret", b"Basic secret"), bears(b"secret", b"")
    (True, False, False)
    """
    scheme, _, given = authorization.partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(given, token)
