"""What somebody may do: rights, and the roles that give them."""

import enum
from collections.abc import Iterable
from typing import Final

import attrs


class Right(enum.StrEnum):
    """Something that may be done. Each endpoint of the control plane asks for one."""

    ENTER = "enter"
    """Be here at all, and what concerns only oneself: who am I, sign out, my sessions."""
    LOOK = "look"
    """See the server, its stores and connections, but no events."""
    PAYLOADS = "payloads"
    """See events and their args."""
    CHANGE = "change"
    """Reset a store, close a connection, change webhooks, reload: whatever changes something."""
    ADMINISTER = "administer"
    """Make and remove operators, and see the tokens and sessions of all of them."""


class Role(enum.StrEnum):
    """What an operator is."""

    OWNER = "owner"
    OPERATOR = "operator"
    VIEWER = "viewer"

    @property
    def rights(self) -> frozenset[Right]:
        """What it may do, where the configuration does not take something away."""
        return _RIGHTS[self]


_RIGHTS: Final = {
    Role.OWNER: frozenset(Right),
    Role.OPERATOR: frozenset(Right) - {Right.ADMINISTER},
    Role.VIEWER: frozenset({Right.ENTER, Right.LOOK, Right.PAYLOADS}),
}

SCOPES: Final = tuple(right for right in Right if right is not Right.ENTER)
"""What the token of a program may be made for; to get in is part of each."""


@attrs.frozen
class Operator:
    """Somebody who may sign in.

    Attributes:
        account_id: never given twice, also when the address is used again.
        email: as it is compared, in small letters.
        role: what he or she is.
        created_at: seconds of the Unix epoch.
        epoch: grows when the password changes or all sessions are ended; sessions of an older one are over.
    """

    account_id: str
    email: str
    role: Role
    created_at: float
    epoch: int = 0

    def rights(self, *, viewers_see_payloads: bool) -> frozenset[Right]:
        """What he or she may do."""
        if self.role is Role.VIEWER and not viewers_see_payloads:
            return self.role.rights - {Right.PAYLOADS}
        return self.role.rights


def may_grant(own: Iterable[Right], wanted: Iterable[Right]) -> bool:
    """Whether who has some rights may make a token with others: nobody gives what he or she has not."""
    return set(wanted) <= set(own)
