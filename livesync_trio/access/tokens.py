"""Tokens: where a client may put one, and what makes a JSON Web Token valid (RFC 7519; PyJWT does the work).

Imported only when tokens are configured: the cryptography behind it costs 60 ms and 10 MB.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

import attrs
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from livesync_trio.access.jwks import KeyRing, read_keys
from livesync_trio.config import Config
from livesync_trio.config.checks import HMAC_ALGORITHMS, KEY_ALGORITHMS
from livesync_trio.errors import Kind, Refusal
from livesync_trio.model import Principal
from livesync_trio.telemetry import get_logger

KEYS_PER_TOKEN_MAX: Final = 8
"""Keys tried on a token that names none (`kid`): issuers have two or three at a time. Some 50 µs each."""

_log = get_logger("transport")

_HOUR_S: Final = 3_600
_DEFAULT_HMAC: Final = ("HS256",)
_DEFAULT_KEYED: Final = ("RS256", "ES256", "EdDSA")

_KEY_OF: Final[dict[str, type | tuple[type, ...]]] = {
    "RS": RSAPublicKey,
    "PS": RSAPublicKey,
    "ES": EllipticCurvePublicKey,
    "Ed": (Ed25519PublicKey, Ed448PublicKey),
}
"""Classes of keys, by the beginning of the algorithms' names."""

_INVALID: Final = Refusal(Kind.UNAUTHENTICATED, "The token is not valid here. Log in again.")
_EXPIRED: Final = Refusal(Kind.UNAUTHENTICATED, "The token has expired. Come back with a fresh one.")
_NOT_YET: Final = Refusal(Kind.UNAUTHENTICATED, "The token is not valid yet.")


@attrs.frozen
class Invalid:
    """Why a token does not count.

    Attributes:
        refusal: what its sender is told, which does not help a stranger to make a better one.
        reason: what the operator is told, in words that hold nothing of the token.
    """

    refusal: Refusal
    reason: str


def _invalid(reason: str) -> Invalid:
    return Invalid(_INVALID, reason)


@attrs.frozen
class Identified:
    """What a valid token says.

    Attributes:
        principal: who sent it.
        expires_in_s: how long it counts from now on, leeway included.
    """

    principal: Principal
    expires_in_s: float


def made_token(config: Config, user: str, hours: float, more: Mapping[str, Any]) -> str:
    """A token that the configuration accepts, signed with `jwt_secret`, which must be there. `more`: other claims."""
    assert config.jwt_secret is not None
    now_s = int(time.time())
    wanted = {"iss": config.jwt_issuer, "aud": config.jwt_audience}
    claims = {
        config.jwt_principal_claim: user,
        "iat": now_s,
        "exp": now_s + int(hours * _HOUR_S),
        **{name: value for name, value in wanted.items() if value is not None},
        **more,
    }
    return jwt.encode(claims, config.jwt_secret.reveal(), algorithm=TokenVerifier.of(config).hmac[0])


@attrs.frozen
class TokenVerifier:
    """What a token must fulfil.

    Attributes:
        secret: for signatures with a shared secret, None for none; used with `hmac` algorithms only.
        hmac: algorithms accepted with the secret.
        keys: public keys, None for none; used with `keyed` algorithms only, so that a public key is never taken for a
            secret.
        keyed: algorithms accepted with the keys.
        issuer: the `iss` it must have, None for any.
        audience: the `aud` it must have. None: it must have none, since one that has is meant for somebody else.
        leeway_s: by how much clocks may differ.
        principal_claim: the claim that names the user.
    """

    secret: str | None = attrs.field(default=None, repr=False)
    hmac: tuple[str, ...] = _DEFAULT_HMAC
    keys: KeyRing | None = None
    keyed: tuple[str, ...] = _DEFAULT_KEYED
    issuer: str | None = None
    audience: str | None = None
    leeway_s: float = 0.0
    principal_claim: str = "sub"

    @classmethod
    def of(cls, config: Config, before: "TokenVerifier | None" = None) -> "TokenVerifier":
        """The verifier that a configuration says. `before`: the one until now, whose fetched keys are kept.

        Raises:
            StartupError: the file with the keys cannot be used.
        """
        wanted = config.jwt_algorithms
        return cls(
            secret=None if config.jwt_secret is None else config.jwt_secret.reveal(),
            hmac=tuple(name for name in wanted if name in HMAC_ALGORITHMS) or _DEFAULT_HMAC,
            keys=None
            if config.jwt_keys is None
            else read_keys(config.jwt_keys, None if before is None else before.keys),
            keyed=tuple(name for name in wanted if name in KEY_ALGORITHMS) or _DEFAULT_KEYED,
            issuer=config.jwt_issuer,
            audience=config.jwt_audience,
            leeway_s=config.jwt_leeway_s,
            principal_claim=config.jwt_principal_claim,
        )

    async def verify(self, token: str) -> Identified | Refusal:
        """Check a token. The refusal never repeats any of it, and does not tell a stranger what is wrong with it.

        The log does, at level debug.
        """
        found = await self.examine(token)
        if isinstance(found, Identified):
            return found
        if found.refusal is _INVALID:
            _log.debug("token not valid", reason=found.reason)
        return found.refusal

    async def examine(self, token: str) -> Identified | Invalid:
        """Check a token; says what is wrong with it. For the operator."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            return _invalid("it is no JSON Web Token")
        algorithm = header.get("alg")
        if algorithm in self.hmac and self.secret is not None:
            return self._check(token, self.secret, algorithm)
        if algorithm in self.keyed and self.keys is not None:
            outcome: Identified | Invalid | None = None
            keys = [key for key in await self.keys.find(header.get("kid")) if _fits(key, algorithm)]
            for key in keys[:KEYS_PER_TOKEN_MAX]:
                outcome = self._check(token, key, algorithm)
                if isinstance(outcome, Identified) or outcome.refusal is not _INVALID:
                    break
            return outcome or _invalid("it names a key that is not in jwt_keys")
        return _invalid("its algorithm is not taken (jwt_algorithms)")

    def _check(self, token: str, key: Any, algorithm: str) -> Identified | Invalid:
        required = ["exp", self.principal_claim]
        required += ["iss"] if self.issuer is not None else []
        required += ["aud"] if self.audience is not None else []
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self.issuer,
                audience=self.audience,
                leeway=self.leeway_s,
                options={"require": required},
            )
        except jwt.ExpiredSignatureError:
            return Invalid(_EXPIRED, "it has expired")
        except jwt.ImmatureSignatureError:
            return Invalid(_NOT_YET, "it is not valid yet (nbf, iat)")
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            return _invalid(type(error).__name__)  # also a key of another kind, or claims that make no sense
        name = claims[self.principal_claim]
        if not isinstance(name, str) or not name:
            return _invalid(f"its {self.principal_claim} is no text")
        return Identified(Principal(name, claims), int(claims["exp"]) + self.leeway_s - time.time())


def _fits(key: Any, algorithm: str) -> bool:
    """Whether a public key is of the kind that an algorithm is for."""
    return isinstance(key, _KEY_OF[algorithm[:2]])
