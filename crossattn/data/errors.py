"""What is said of data that cannot be read, in one line."""

__all__ = ["DataError", "one_line"]

LONGEST = 300


class DataError(ValueError):
    r"""Data on the disk are not what was asked for, or are damaged; the message is one line.

    Names out of files may stand in it: what moves a terminal's cursor is escaped.

    Example:
        >>> str(DataError("there is no split \x1b[2Jtest"))
        'there is no split \\x1b[2Jtest'
    """

    def __init__(self, message: str):
        super().__init__(_escaped(message))


def one_line(said: object) -> str:
    r"""Spell another library's error, or a name from a file, in one line that is not too long.

    Example:
        >>> one_line(OSError("two\n  lines")), one_line(MemoryError())
        ('two lines', 'MemoryError')
    """
    text = _escaped(" ".join(str(said).split()))
    if not text and isinstance(said, BaseException):
        return type(said).__name__
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _escaped(text: str) -> str:
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
