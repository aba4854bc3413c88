"""What stands around the door besides authentication: proxies, rates, names of stores, TLS.

Without settings, each of them lets everything through and costs next to nothing.
"""

import re

import attrs

from livesync_trio.config import Config
from livesync_trio.connection.entitlement import StoreQuotas
from livesync_trio.fairness import Fairness, Visitor
from livesync_trio.transport.proxies import Proxies
from livesync_trio.transport.store_ids import StoreIdPolicy
from livesync_trio.transport.tls import Tls


@attrs.frozen
class Guards:
    """The guards of one door.

    Attributes:
        proxies: who is believed about the address of a client.
        store_ids: which names of stores are taken.
        fairness: rates, and connections held.
        quotas: how much a store may hold; None for any amount.
        tls: the certificate; None where a proxy has it, or nobody.
    """

    proxies: Proxies = attrs.field(factory=Proxies)
    store_ids: StoreIdPolicy = attrs.field(factory=StoreIdPolicy)
    fairness: Fairness = attrs.field(factory=Fairness)
    quotas: StoreQuotas | None = None
    tls: Tls | None = None

    @classmethod
    def of(cls, config: Config) -> "Guards":
        """The guards that a configuration says.

        Raises:
            StartupError: the certificate cannot be used.
        """
        pattern = None if config.store_id_pattern is None else re.compile(config.store_id_pattern)
        quotas = StoreQuotas(config.max_store_events, config.max_store_bytes)
        tls = None
        if config.tls_cert is not None and config.tls_key is not None:
            tls = Tls(config.tls_cert, config.tls_key)
        return cls(
            Proxies.of(config.trusted_proxies, config.forwarded_header),
            StoreIdPolicy(pattern, config.store_id_max_bytes),
            Fairness.of(config),
            quotas if quotas.set else None,
            tls,
        )


@attrs.frozen
class Caller:
    """The other end of one TCP connection.

    Attributes:
        address: `host:port` of the socket.
        host: the host alone.
        visitor: what this connection holds of the counts.
    """

    address: str
    host: str
    visitor: Visitor
