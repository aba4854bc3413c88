"""Completion of store names in a shell, from the server or database that is meant; none when it cannot be asked."""

from itertools import islice
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

_MOST: Final = 100
"""Names offered at most."""


def complete_store(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Stores whose name begins with what is typed."""
    from livesync_trio.cli.reading import reading  # noqa: PLC0415 - only when a shell asks

    given: dict[str, Any] = {name: context.params.get(name) for name in ("config", "database_url", "listen_url")}
    try:
        with reading(context.params.get("url"), given) as source:
            names = (str(store["storeId"]) for store in source.stores(incomplete))
            return [CompletionItem(name) for name in islice((n for n in names if n.startswith(incomplete)), _MOST)]
    except Exception:  # a shell that completes has no place for a message
        return []
