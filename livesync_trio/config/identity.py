"""Settings that say who a client is and which stores it may use."""

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from livesync_trio import limits
from livesync_trio.config.declaring import declare, not_empty
from livesync_trio.config.secret import Secret

HMAC_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
KEY_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""Signatures of tokens (RFC 7518, RFC 8037): with a shared secret, and with a public key. Never `none`."""

_CLAIM_IN_TEMPLATE: Final = re.compile(r"\{([^{}]*)\}")


def template_claims(template: str) -> list[str]:
    """Names of the claims that stand in braces in a store template; raises ValueError when it is not one."""
    if re.search(r"[{}]", _CLAIM_IN_TEMPLATE.sub("", template)):
        raise ValueError(f"{template!r} has a brace without its partner")
    names = _CLAIM_IN_TEMPLATE.findall(template)
    if not all(names):
        raise ValueError(f"{template!r} has braces without a claim in them")
    if "*" in template.removesuffix("*"):
        raise ValueError(f"{template!r} has a * that is not at its end")
    return names


def _templates(values: tuple[str, ...]) -> None:
    for value in values:
        template_claims(value)


def _hmac_secret(value: Secret | None) -> None:
    if value is not None and len(value.reveal().encode()) < limits.JWT_SECRET_LEAST_BYTES:
        raise ValueError(f"it is shorter than {limits.JWT_SECRET_LEAST_BYTES} bytes")


def _keys(value: str | None) -> None:
    not_empty(value)
    if value is None or "://" not in value:
        return
    parts = urlsplit(value)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")):
        raise ValueError("keys from a network are read over https only")


def _algorithms(values: tuple[str, ...]) -> None:
    for value in values:
        if value not in (*HMAC_ALGORITHMS, *KEY_ALGORITHMS):
            raise ValueError(f"{value!r} is not one of {', '.join((*HMAC_ALGORITHMS, *KEY_ALGORITHMS))}")


def _cookie(value: str | None) -> None:
    if value is not None and not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        raise ValueError(f"{value!r} is not the name of a cookie")


def _leeway(value: float) -> None:
    if not 0 <= value <= limits.JWT_LEEWAY_MAX_S:
        raise ValueError(f"{value:g} is out of range")


_TEMPLATES: Final = "store names separated by commas; `{org}` stands for a claim, a `*` at the end for any rest"


@attrs.frozen(kw_only=True, slots=False)  # several of these are one class in the end
class IdentitySettings:
    """Tokens, and what their claims allow. See `docs/authentication.md`."""

    jwt_secret: Secret | None = declare(
        None,
        f"at least {limits.JWT_SECRET_LEAST_BYTES} bytes",
        "Secret with which JSON Web Tokens are signed (HS256).",
        check=_hmac_secret,
    )
    jwt_keys: str | None = declare(
        None,
        "the path of a PEM or JWKS file, or the https URL of a JWKS",
        "Public keys that verify JSON Web Tokens; those of a URL are fetched again when a token names an unknown one.",
        check=_keys,
    )
    jwt_algorithms: tuple[str, ...] = declare(
        (),
        "names such as `RS256` separated by commas",
        "Signatures accepted; empty: HS256 for `jwt_secret`, and RS256, ES256 and EdDSA for `jwt_keys`.",
        check=_algorithms,
    )
    jwt_issuer: str | None = declare(None, "any text", "The `iss` that tokens must have.", check=not_empty)
    jwt_audience: str | None = declare(None, "any text", "The `aud` that tokens must have.", check=not_empty)
    jwt_leeway_s: float = declare(
        limits.JWT_LEEWAY_S,
        f"0 to {limits.JWT_LEEWAY_MAX_S:g}",
        "Seconds by which clocks may differ when `exp` and `nbf` are judged.",
        check=_leeway,
    )
    jwt_principal_claim: str = declare(
        "sub", "the name of a claim", "Claim that says who the client is.", check=not_empty
    )
    jwt_stores_claim: str = declare(
        "stores",
        "the name of a claim",
        "Claim with the stores a token may read and write: names, or prefixes that end in `*`.",
        check=not_empty,
    )
    jwt_read_stores_claim: str = declare(
        "stores_read", "the name of a claim", "Claim with the stores a token may only read.", check=not_empty
    )
    jwt_stores: tuple[str, ...] = declare(
        (), _TEMPLATES, "Stores every token may read and write, such as `team-{org}`.", check=_templates
    )
    jwt_read_stores: tuple[str, ...] = declare((), _TEMPLATES, "Stores every token may only read.", check=_templates)
    auth_cookie: str | None = declare(
        None,
        "the name of a cookie",
        "Cookie in which a token may come too; asks for `cors_origins`, since browsers send cookies for any page.",
        check=_cookie,
    )
    store_user: bool = declare(
        False,
        "true or false",
        "Store with each event who pushed it: the claim `jwt_principal_claim`, or whom a hook named. No client is "
        "told.",
    )


def identity_problems(settings: Any) -> list[tuple[str, str]]:
    """What of the identity settings does not fit together: the variable at fault, and what is wrong with it."""
    problems = []
    algorithms = set(settings.jwt_algorithms)
    for env, given, kinds in (
        ("LIVESYNC_JWT_SECRET", settings.jwt_secret is not None, set(HMAC_ALGORITHMS)),
        ("LIVESYNC_JWT_KEYS", settings.jwt_keys is not None, set(KEY_ALGORITHMS)),
    ):
        if algorithms & kinds and not given:
            problems.append((env, "it is missing, although LIVESYNC_JWT_ALGORITHMS names a signature that needs it"))
        if algorithms and given and not algorithms & kinds:
            problems.append((env, "it is given, although LIVESYNC_JWT_ALGORITHMS allows no signature made with it"))
    if settings.jwt_keys is not None and "://" not in settings.jwt_keys and not Path(settings.jwt_keys).is_file():
        problems.append(("LIVESYNC_JWT_KEYS", f"{settings.jwt_keys!r}: there is no such file"))
    if settings.auth_cookie is not None and ("*" in settings.cors_origins or not settings.cors_origins):
        wrong = "browsers send cookies for any page: name the pages that may connect in LIVESYNC_CORS_ORIGINS"
        problems.append(("LIVESYNC_AUTH_COOKIE", wrong))
    return problems
