"""What becomes of an attempt to hand over a message, and of what an operator asks for."""

import attrs


@attrs.frozen
class Taken:
    """The receiver has it."""

    status: int


@attrs.frozen
class Failed:
    """The receiver has it not, as far as anybody knows.

    Attributes:
        reason: why, for an operator.
        retry_after_s: how long the receiver asks to be left alone, if it does.
        too_large: it says that the message is too large.
    """

    reason: str
    retry_after_s: float | None = None
    too_large: bool = False


@attrs.frozen
class Gone:
    """The receiver wants nothing any more (410)."""


Answer = Taken | Failed | Gone


class Wrong(Exception):
    """What an operator asked for cannot be done; the message says why."""
