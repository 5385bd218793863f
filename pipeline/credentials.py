"""Addresses without the credentials that they may carry."""

import re

_PASSWORD = re.compile(r"(://[^\s/@:]*):(?!\d*/)[^\s@]*@(?:[^\s/@]*@)*")  # it may hold "/" and "@"; a port does not
_USER = re.compile(r"(?<!ssh)(?<!sftp)://[^\s/]*@")


def without_credentials(text: str) -> str:
    """Remove ``user:password@`` and ``token@`` from every address in a text.

    The user of an SSH address stays: it is needed to connect and is no secret. ``git@host:path`` has no password.
    """
    return _USER.sub("://", _PASSWORD.sub(r"\1@", text))
