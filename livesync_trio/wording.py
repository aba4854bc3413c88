"""How numbers and URLs are put into sentences for a person."""

import re


def count(number: int, thing: str) -> str:
    """A number of things: `1 store`, `2,000 events`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def shown_url(url: str) -> str:
    """A URL as it may be shown: without user, password, query and fragment."""
    base = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, separator, rest = base.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else base.rpartition("@")[2]
