"""Addresses without the credentials that they may carry."""

import re

# A password may hold "/", "@" and blanks. A port is none, but with SQLAlchemy, whose passwords end at the first "@".
_PASSWORD = re.compile(r"(://[^\s/@:]*):(?!\d*(?:[/?#\s'\"),;]|$))[^@]*@(?:[^\s/@]*@)*")
_PASSWORD_OF_DATABASE = re.compile(r"(\b(?!https?:|ssh:|sftp:|git:)[a-z][\w+.-]*://[^\s/@:]*):[^\s@]*@(?:[^\s/@]*@)*")
_USER = re.compile(r"(?<!ssh)(?<!sftp)://[^\s/]*@")
_WITHOUT_SCHEME = re.compile(r"(?<![\w/:@.%+-])[\w.%+-]+:[^\s@/:]+@(?=[\w\[])")
_PARAMETER = re.compile(
    r"([\w-]*(?:password|passwd|pwd|token|secret|api[_-]?key|signature|credential|odbc_connect)[\w-]*=['\"]?)[^\s&;#'\"]+",
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """Remove ``user:password@`` and ``token@`` from every address in a text, and the values of secret parameters.

    The user of an SSH address stays: it is needed to connect and is no secret. ``git@host:path`` has no password.

    >>> without_credentials("postgresql://me:12/34@host/db?sslpassword=secret&x=1")
    'postgresql://host/db?sslpassword=***&x=1'
    """
    for password in (_PASSWORD, _PASSWORD_OF_DATABASE):
        text = password.sub(r"\1@", text)
    return _PARAMETER.sub(r"\1***", _WITHOUT_SCHEME.sub("", _USER.sub("://", text)))
