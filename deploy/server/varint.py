"""Numbers of seven bits a byte, as protobuf and Thrift write them, lowest bits first.

Reference: https://protobuf.dev/programming-guides/encoding/#varints.
"""

_MOST_BITS = 64


def read_varint(content: bytes, place: int) -> tuple[int, int]:
    r"""The number that begins at an offset, and the offset after it.

    >>> read_varint(b"\xac\x02", 0)
    (300, 2)

    Raises:
        ValueError: the bytes end within it, or it has more than 64 bits.
    """
    found = shift = 0
    while shift < _MOST_BITS:
        if place >= len(content):
            raise ValueError("it ends too early")
        byte = content[place]
        place, found, shift = place + 1, found | (byte & 127) << shift, shift + 7
        if byte < 128:
            return found, place
    raise ValueError(f"it has a number of more than {_MOST_BITS} bits")
