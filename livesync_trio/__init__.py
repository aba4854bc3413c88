"""livesync_trio: a self-hosted sync server for LiveStore apps.

`serve` runs the server inside a Trio program; the command line is `livesync serve`. The names are looked up when they
are used, so that importing one layer does not load all the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from livesync_trio.app.running import serve
    from livesync_trio.config import Config
    from livesync_trio.hooks import HookContext, HookCursor, HookEvent, HookPage, HookPushResult, Hooks, Refused

__all__ = [
    "Config",
    "HookContext",
    "HookCursor",
    "HookEvent",
    "HookPage",
    "HookPushResult",
    "Hooks",
    "Refused",
    "serve",
]

_MODULES = {"serve": "app.running", "Config": "config"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'hooks')}"), name)
