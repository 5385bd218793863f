"""Addresses without the credentials that they may carry."""

import re

_NAME = r"//(?!\[)[^\s/@:]*(?:@[^\s/@:]*)*"  # of a user, who may be an address of mail; [ begins a host
# A password may hold "/", "@" and blanks. Without "/" and blanks it is clear where it ends ...
_PASSWORD = re.compile(rf"(:{_NAME}):[^\s/]*@")
# ... and so it is where it does not begin as a port, which is followed by the path of an address or by other text.
_LONG_PASSWORD = re.compile(rf"(:{_NAME}):(?!\d*(?:[/?#\s'\"),;]|$))[^@]*@(?:[^\s/@]*@)*")
# Where it does, a name with a dot is a host, and what follows is a port; in other places the name is a user's.
_LIKE_PORT = re.compile(r"(://(?!localhost:)[^\s/@:.\[]*):\d*(?:/| (?!\w+:/))[^\s@]*@(?:[^\s/@]*@)*")
# SQLAlchemy, whose passwords end at the first "@", takes it for a password in any place.
_PASSWORD_OF_DATABASE = re.compile(rf"(\b(?!https?:|ssh:|sftp:|git:)[a-z][\w+.-]*:{_NAME}):[^\s@]*@(?:[^\s/@]*@)*")
_USER = re.compile(r"(?<!ssh)(?<!sftp)://[^\s/]*@")
_WITHOUT_SCHEME = re.compile(
    r"(?<![\w/:@.%+-])(?:[\w.%+-]+:[^\s@/:]+|[\w%+-]+:[^\s@/][^\s@]*)@(?:[^\s/@]*@)*(?=[\w\[])"
)
_PARAMETER = re.compile(
    r"((?:[\w-]*(?:password|passwd|pwd|token|secret|api[_-]?key|signature|credential|odbc_connect)[\w-]*|(?<=[?&])sig)"
    r"=['\"]?)[^\s&;#'\"]+",  # sig: that of a shared address of Azure
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """Remove ``user:password@`` and ``token@`` from every address in a text, and the values of secret parameters.

    The user of an SSH address stays: it is needed to connect and is no secret. ``git@host:path`` has no password.

    >>> without_credentials("postgresql://me:12/34@host/db?sslpassword=secret&x=1")
    'postgresql://host/db?sslpassword=***&x=1'
    """
    for password in (_PASSWORD, _LONG_PASSWORD, _LIKE_PORT, _PASSWORD_OF_DATABASE):
        text = password.sub(r"\1@", text)
    return _PARAMETER.sub(r"\1***", _WITHOUT_SCHEME.sub("", _USER.sub("://", text)))
