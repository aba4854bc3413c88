"""A text that must not be seen."""

import hashlib
import hmac
from typing import NoReturn


class Secret:
    """A token or password that no log line, traceback or `repr` shows.

    Not an attrs class: `attrs.asdict` of a configuration would walk into it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself. For the few who must send it or compare it by rules of their own."""
        return self._text

    def matches(self, candidate: str) -> bool:
        """Whether `candidate` is the secret, in a time that tells nothing about it, not even its length."""
        return hmac.compare_digest(_digest(self._text), _digest(candidate))

    def __eq__(self, other: object) -> bool:
        return self.matches(other._text) if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(_digest(self._text))

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


def _digest(text: str) -> bytes:
    # A candidate comes from a client's JSON and may hold lone surrogates, which plain UTF-8 refuses.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
