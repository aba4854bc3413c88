"""The server's own pages on the public port: what is seen at `/`, and `GET /metrics`."""

import base64
import hashlib
import html
import re
from collections.abc import Callable, Mapping
from typing import Final

import trio

from livesync_trio.config import Secret
from livesync_trio.errors import Kind, Refusal
from livesync_trio.fairness import Attempts
from livesync_trio.version import VERSION

TEXT: Final = (
    "Info: Sync backend endpoint for LiveStore (livesync_trio).\n"
    "Point makeWsSync, makeHttpSync or makeCfSync at this address. GET /health tells how it is.\n"
)

_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:\d{1,5})?")

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #16202a; --dim: #5b6875; --paper: #fff; --box: #f3f5f7; --line: #e1e6ea;
  --well: #12805c; --ill: #b3261e; --link: #0b63ce }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf2; --dim: #98a5b3; --paper: #10151a; --box: #1a2128;
  --line: #2a333d; --well: #4cc38a; --ill: #ff8a80; --link: #7db7ff } }
* { box-sizing: border-box }
body { margin: 0; padding: 12vh 24px 48px; background: var(--paper); color: var(--ink);
  font: 17px/1.6 system-ui, sans-serif }
main { max-width: 640px; margin: 0 auto }
h1 { margin: 0 0 4px; font-size: 34px; line-height: 1.2; letter-spacing: -.02em }
h2 { margin: 40px 0 8px; font-size: 17px }
p { margin: 0 0 12px; color: var(--dim) }
.state { display: inline-block; margin-bottom: 20px; padding: 3px 14px; border: 1px solid; border-radius: 99px;
  font-size: 14px; font-weight: 600; color: var(--well) }
.ill { color: var(--ill) }
pre { margin: 0 0 12px; padding: 16px 18px; overflow-x: auto; border: 1px solid var(--line); border-radius: 10px;
  background: var(--box); font: 14px/1.6 ui-monospace, Menlo, Consolas, monospace }
a { color: var(--link) }
footer { margin-top: 48px; padding-top: 16px; border-top: 1px solid var(--line); font-size: 14px; color: var(--dim) }
"""

POLICY: Final = (
    "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)
"""The Content-Security-Policy of the page: its own style, and nothing else."""


def wants_page(headers: Mapping[str, str]) -> bool:
    """Whether a browser asks, for a person."""
    return "text/html" in headers.get("accept", "")


def page(headers: Mapping[str, str], *, well: bool, tls: bool) -> bytes:
    """The page.

    Args:
        headers: of the request; the address that it names is the one that the reader's app can use.
        well: whether all is well.
        tls: whether this server speaks TLS itself.
    """
    host = headers.get("host", "")
    if not _HOST.fullmatch(host):
        host = "your-server.example"
    secure = "s" if tls or headers.get("x-forwarded-proto", "") == "https" else ""
    url = html.escape(f"ws{secure}://{host}")
    state = "It works" if well else "It is not healthy: see /health"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
<title>livesync</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<p class="state{"" if well else " ill"}">{state}</p>
<h1>livesync</h1>
<p>A sync server for <a href="https://livestore.dev" rel="noreferrer">LiveStore</a> apps. There is nothing to see here:
apps connect to this address, and their events are kept and passed on.</p>
<h2>Connect your app</h2>
<pre>import {{ makeWsSync }} from '@livestore/sync-cf/client'

makeWorker({{
  schema,
  sync: {{ backend: makeWsSync({{ url: '{url}' }}) }},
}})</pre>
<p>Does the server ask for a token? Send it as <code>syncPayload: {{ authToken }}</code>.
LiveStore 0.3 uses <code>makeCfSync</code> with the same address.</p>
<h2>On this machine</h2>
<pre>livesync doctor    # check everything, and sync an event
livesync stores    # what is stored
livesync --help    # all commands</pre>
<footer>livesync {html.escape(VERSION)} · <a href="/health">health</a> ·
<a href="https://docs.livestore.dev" rel="noreferrer">LiveStore documentation</a></footer>
</main>
</body>
</html>
""".encode()


_BEARER: Final = "bearer "


class MetricsPage:
    """The page."""

    def __init__(
        self, token: Secret | None, render: Callable[[], tuple[bytes, str]], attempts: Attempts | None = None
    ) -> None:
        """Put the page together.

        Args:
            token: who brings it sees the page; None for no page.
            render: gives body and content type.
            attempts: wrong tokens so far, by address.
        """
        self.token = token
        """May be exchanged while the server runs."""
        self._render = render
        self._attempts = attempts or Attempts("metrics tokens")

    def ask(self, headers: Mapping[str, str], host: str) -> tuple[bytes, str] | Refusal:
        """Body and content type for who brings the token.

        Args:
            headers: of the request, names in lower case.
            host: address of the client, without port; whoever guesses must wait.
        """
        if self.token is None:
            return Refusal(Kind.NOT_FOUND, "Nothing is here. Sync URLs carry `transport`.")
        now_s = trio.current_time()
        refusal = self._attempts.refusal(host, now_s)
        if refusal is not None:
            return refusal
        authorization = headers.get("authorization", "")
        given = authorization[len(_BEARER) :].strip() if authorization[: len(_BEARER)].lower() == _BEARER else None
        if given is not None and self.token.matches(given):
            return self._render()
        if given is not None:
            self._attempts.failed(host, now_s)
        return Refusal(Kind.UNAUTHENTICATED, "The metrics are for who sends their token: Authorization: Bearer …")
