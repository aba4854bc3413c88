"""Settings of the console and of the operators who sign in to it, and what an address and a password may be."""

import re
import unicodedata
from typing import Final

import attrs

from livesync_trio.config.checks import duration
from livesync_trio.config.declaring import SECONDS, Secret, declare, is_placeholder
from livesync_trio.config.groups import Group

PASSWORD_LEAST_CHARACTERS: Final = 12
PASSWORD_MAX_BYTES: Final = 1024
"""Of a password; the longest is bounded because strangers send them to be hashed."""

EMAIL_MAX_CHARACTERS: Final = 254
"""What RFC 5321 can carry."""

_EMAIL: Final = re.compile(r"[^\s@<>\"'`,;:\\()\[\]]{1,64}@[^\s@<>\"'`,;:\\()\[\]]{1,189}")


def email_read(text: str) -> str:
    """An e-mail address as operators are known by it: in one of the ways in which it can be written.

    Raises:
        ValueError: it is none. The message does not repeat it.
    """
    email = unicodedata.normalize("NFKC", text.strip()).casefold()
    if len(email) > EMAIL_MAX_CHARACTERS or not _EMAIL.fullmatch(email) or not email.isprintable():
        raise ValueError("it is not an e-mail address")
    return email


def check_password(password: Secret, email: str = "") -> None:
    """Check that a password is no gift. `email`: of the operator whose it is to be.

    Raises:
        ValueError: it is too short, too long or known to everybody. The message does not repeat it.
    """
    text = password.reveal()
    if is_placeholder(password):
        raise ValueError("it is a placeholder that everybody knows")
    if len(text) < PASSWORD_LEAST_CHARACTERS:
        raise ValueError(f"it has fewer than {PASSWORD_LEAST_CHARACTERS} characters")
    if len(text.encode(errors="surrogatepass")) > PASSWORD_MAX_BYTES:
        raise ValueError(f"it has more than {PASSWORD_MAX_BYTES} bytes")
    if len(set(text)) < 4 or text.casefold() == email.casefold():
        raise ValueError("it is easy to guess")


def _email(value: str | None) -> None:
    if value is not None:
        email_read(value)


@attrs.frozen(kw_only=True, slots=False)
class ConsoleSettings(Group):
    """The console and who may sign in. See `docs/console.md`."""

    console: bool = declare(
        False,
        "true or false",
        "Serve the console on the control plane, and let operators sign in there; works without `ADMIN_SECRET`.",
    )
    admin_email: str | None = declare(
        None,
        "an e-mail address",
        "With the console on: an operator who is made at the start, an owner, unless there is one of this address.",
        env="ADMIN_EMAIL",
        check=_email,
    )
    admin_password: Secret | None = declare(
        None,
        f"a text of at least {PASSWORD_LEAST_CHARACTERS} characters that is no placeholder",
        "The password with which that operator is made; one who exists keeps the old one.",
        env="ADMIN_PASSWORD",
        check=lambda value: None if value is None else check_password(value),
    )
    viewers_see_payloads: bool = declare(
        True, "true or false", "Whether operators of the role viewer see events and their args, or only the rest."
    )
    console_session_s: float = declare(43200.0, SECONDS, "How long an operator stays signed in.", check=duration)

    def misfits(self) -> list[tuple[str, str]]:
        """See `Group`."""
        if not self.console or (self.admin_email is None) == (self.admin_password is None):
            return []
        missing = "ADMIN_PASSWORD" if self.admin_password is None else "ADMIN_EMAIL"
        return [(missing, "it is missing: ADMIN_EMAIL and ADMIN_PASSWORD belong together")]
