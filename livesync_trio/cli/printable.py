"""Text of others as a terminal may be given it."""


def printable(text: str) -> str:
    """A text that moves no cursor and sets no title: what is not printable is written as its number."""
    return "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)
