"""`livesync token`: make a JSON Web Token to try an app with, or explain what one opens and until when."""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
import trio

from livesync_trio.access.grants import Grants
from livesync_trio.access.tokens import Identified, TokenVerifier, made_token
from livesync_trio.cli import printing
from livesync_trio.cli.options import complete_store, configuration_options, json_option
from livesync_trio.cli.printing import tell
from livesync_trio.config import Config, load
from livesync_trio.errors import CommandError, Kind

_STANDARD_INPUT: Final = "-"
_REASONS: Final = {
    "InvalidSignatureError": "it is not signed with this secret or one of these keys",
    "InvalidIssuerError": "its iss is not LIVESYNC_JWT_ISSUER",
    "InvalidAudienceError": "its aud is not LIVESYNC_JWT_AUDIENCE (it must have none where that is not set)",
    "MissingRequiredClaimError": "it lacks exp, LIVESYNC_JWT_PRINCIPAL_CLAIM, or an iss or aud that is asked for",
    "DecodeError": "it is damaged",
}
"""What is wrong with a token, by the name that the verifier gives it."""


@click.command()
@click.option("--user", metavar="NAME", default="developer", show_default=True, help="Who the token is for.")
@click.option(
    *("--store", "stores"),
    multiple=True,
    metavar="STORE",
    shell_complete=complete_store,
    help="Store to read and write, or a prefix that ends in *; may be repeated.",
)
@click.option(
    *("--read-store", "read_stores"), multiple=True, metavar="STORE", help="Store to read only; may be repeated."
)
@click.option("--hours", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="How long.")
@click.option("--claim", "claims", multiple=True, metavar="NAME=VALUE", help="Another claim, in JSON or as text.")
@click.option("--check", "given", metavar="TOKEN", help="Make none: explain this one; - reads it from standard input.")
@json_option
@configuration_options("jwt_secret", "jwt_keys", "jwt_issuer", "jwt_audience")
def token(
    *,
    user: str,
    stores: Sequence[str],
    read_stores: Sequence[str],
    hours: float,
    claims: Sequence[str],
    given: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Make a JSON Web Token that this configuration accepts, or explain one by --check.

    A token is signed with LIVESYNC_JWT_SECRET. An app sends it as `syncPayload: { authToken }`. Takes every option of
    `livesync serve`; the exit code is 10 if a token is not valid.
    """
    config = load(flags, os.environ)
    if given is None:
        named = {config.jwt_stores_claim: list(stores), config.jwt_read_stores_claim: list(read_stores)}
        more = {claim: value for claim, value in named.items() if value} | dict(map(_claim, claims))
        _explain(config, _made(config, user, hours, more), as_json=as_json, made=True)
    else:
        text = sys.stdin.read() if given == _STANDARD_INPUT else given
        _explain(config, text.strip(), as_json=as_json, made=False)


def _made(config: Config, user: str, hours: float, more: Mapping[str, Any]) -> str:
    """A signed token. Raises CommandError where nothing is signed with a secret."""
    if config.jwt_secret is None:
        raise CommandError(
            Kind.BAD_CONFIG,
            "A token is signed with LIVESYNC_JWT_SECRET, which is not set. "
            "With LIVESYNC_JWT_KEYS only whoever has the private key can make one; --check explains it.",
        )
    return made_token(config, user, hours, more)


def _claim(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--claim")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _explain(config: Config, text: str, *, as_json: bool, made: bool) -> None:
    """Check a token as the server would, and tell what it opens. A new one goes to stdout, what it opens to stderr."""
    if config.jwt_secret is None and config.jwt_keys is None:
        raise CommandError(Kind.BAD_CONFIG, "No tokens are accepted: set LIVESYNC_JWT_SECRET or LIVESYNC_JWT_KEYS.")
    found = trio.run(TokenVerifier.of(config).examine, text)
    if not isinstance(found, Identified):
        raise CommandError(Kind.CHECKS_FAILED, f"The token is not valid: {_REASONS.get(found.reason, found.reason)}.")
    writes, reads = Grants.of(config).patterns(found.principal.claims)
    until = datetime.fromtimestamp(time.time() + found.expires_in_s, UTC)
    if as_json:
        printing.line(
            {
                **({"token": text} if made else {}),
                "user": found.principal.id,
                "expiresAt": f"{until:%Y-%m-%dT%H:%M:%SZ}",
                "stores": writes,
                "readStores": reads,
            }
        )
        return
    lines = [
        f"user:        {found.principal.id}",
        f"expires in:  {printing.duration(found.expires_in_s)} ({until:%Y-%m-%d %H:%M:%S} UTC)",
        f"read, write: {', '.join(writes) or 'no store'}",
        *([f"read only:   {', '.join(reads)}"] if reads else []),
        *([f"and what the hooks in {config.hooks} decide"] if config.hooks is not None else []),
    ]
    if made:
        tell(text)
    tell("\n".join(lines), err=made)
