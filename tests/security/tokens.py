"""JSON Web Tokens and the keys they are signed with."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

SECRET = "a secret for tokens that is long enough"

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()

EVERYTHING = ["*"]


def pem_of(private: Any) -> bytes:
    """The public key of a private one."""
    pem: bytes = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def private_pem_of(private: Any) -> bytes:
    pem: bytes = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def jwk(private: Any, key_id: str | None, **more: Any) -> dict[str, Any]:
    """The public key as a JWK."""
    algorithm: Any = jwt.algorithms.RSAAlgorithm
    if private is EC:
        algorithm = jwt.algorithms.ECAlgorithm
    elif private is ED:
        algorithm = jwt.algorithms.OKPAlgorithm
    fields: dict[str, Any] = json.loads(algorithm.to_jwk(private.public_key()))
    fields.pop("key_ops", None)
    return {**fields, **({} if key_id is None else {"kid": key_id}), **more}


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def claims(*, expires_in_s: float | None = 3600, **others: Any) -> dict[str, Any]:
    """The claims of a token that may use everything, unless told otherwise."""
    expiry = {} if expires_in_s is None else {"exp": int(time.time() + expires_in_s)}
    return {"sub": "ann", "stores": EVERYTHING, **expiry, **others}


def token(key: Any = SECRET, algorithm: str = "HS256", *, kid: str | None = None, **fields: Any) -> str:
    """A signed token."""
    headers = None if kid is None else {"kid": kid}
    return jwt.encode(claims(**fields), key, algorithm=algorithm, headers=headers)
