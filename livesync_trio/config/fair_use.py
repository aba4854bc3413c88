"""Settings that keep one client from taking what belongs to all."""

from typing import Any, Final

import attrs

from livesync_trio import limits
from livesync_trio.config.declaring import at_least, declare
from livesync_trio.config.rates import parse_rates

_RATES: Final = "`connections`, `pushes`, `events`, `bytes`, each `=` a number `/s`, `/min` or `/h`; `off` for no limit"
_COUNT: Final = "a whole number; 0 for no limit"


def _rates(values: tuple[str, ...]) -> None:
    parse_rates(values)


def _count(default: int, help_text: str) -> Any:
    return declare(default, _COUNT, help_text, check=at_least(0))


@attrs.frozen(kw_only=True, slots=False)  # several of these are one class in the end
class FairUseSettings:
    """Rates and quotas. See `docs/hardening.md`."""

    rate_principal: tuple[str, ...] = declare(
        limits.RATE_PRINCIPAL, _RATES, "How fast one user may connect and push.", check=_rates
    )
    rate_address: tuple[str, ...] = declare(
        limits.RATE_ADDRESS, _RATES, "How fast one address may; loopback addresses are not counted.", check=_rates
    )
    rate_store: tuple[str, ...] = declare((), _RATES, "How fast one store may be used, by all together.", check=_rates)
    max_principal_connections: int = _count(
        limits.PRINCIPAL_CONNECTIONS_MAX, "WebSockets that one user may have open at a time."
    )
    max_address_connections: int = _count(
        limits.ADDRESS_CONNECTIONS_MAX, "Connections that one address may have open; loopback is not counted."
    )
    max_principal_stores: int = _count(
        limits.PRINCIPAL_STORES_MAX, "Different stores that one user may use within a day."
    )
    max_store_events: int = _count(0, "Events that a store may hold; pushes that would exceed it are refused.")
    max_store_bytes: int = _count(0, "Bytes of events that a store may hold; counted by reading it once after a start.")
