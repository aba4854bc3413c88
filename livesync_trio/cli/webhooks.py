"""`livesync webhooks`: the webhooks of a running server: list them, test one, deliver a store again."""

from collections.abc import Callable
from typing import Any

import click

from livesync_trio.cli import printing
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.options import database_options, json_option, server_options
from livesync_trio.cli.printing import tell
from livesync_trio.errors import CommandError, Kind
from livesync_trio.limits import ADMIN_PAGE_MAX, SEQ_NUM_MAX


def _of_a_server(command: Callable[..., None]) -> Callable[..., None]:
    return json_option(server_options(database_options(command)))


@click.group()
def webhooks() -> None:
    """List, test and replay the webhooks of a running server."""


@webhooks.command("list")
@click.option("--parked", is_flag=True, help="The stores that are not tried any more, and why.")
@_of_a_server
def list_(*, parked: bool, as_json: bool, url: str | None, **flags: Any) -> None:
    """List the webhooks, or the stores that they gave up."""
    plane = ControlPlane.needed(url, flags)
    with plane.understood():
        found = plane.get("/webhooks")["webhooks"]
        if parked:
            _list_parked(plane, [one["id"] for one in found], as_json=as_json)
        elif as_json:
            for one in found:
                printing.line(one)
        else:
            printing.table(
                ("webhook", "url", "mode", "delivered#", "failed#", "behind#", "lag#", "parked#"),
                (
                    (
                        one["id"],
                        one["url"],
                        one["mode"],
                        one["delivered"],
                        one["failed"],
                        one["storesBehind"],
                        f"{one['lagSeconds']:.0f} s",
                        one["storesParked"],
                    )
                    for one in found
                ),
                empty="There are no webhooks.",
            )


def _list_parked(plane: ControlPlane, ids: list[str], *, as_json: bool) -> None:
    found: list[dict[str, Any]] = []
    for each in ids:
        after: str | None = None
        while True:
            page = plane.get("/webhooks/deliveries", webhook=each, after=after, limit=ADMIN_PAGE_MAX)
            found += [{"webhook": each, **store} for store in page["stores"] if store["parked"]]
            after = page["next"]
            if after is None:
                break
    if as_json:
        for store in found:
            printing.line(store)
        return
    printing.table(
        ("webhook", "store", "delivered up to#", "reason_"),
        ((store["webhook"], store["storeId"], f"e{store['seqNum']}", store["reason"]) for store in found),
        empty="No store was given up.",
    )


@webhooks.command()
@click.argument("webhook")
@_of_a_server
def test(*, webhook: str, as_json: bool, url: str | None, **flags: Any) -> None:
    """Send WEBHOOK a test message, and tell what its receiver says."""
    plane = ControlPlane.needed(url, flags)
    with plane.understood():
        answer = plane.post("/webhooks/test", {"webhook": webhook})
        if as_json:
            printing.line(answer)
        else:
            tell(f"{webhook}: {answer['told']}")
        if not answer["taken"]:
            raise CommandError(Kind.CHECKS_FAILED, f"The receiver of {webhook} did not take the message.")


@webhooks.command()
@click.argument("webhook")
@click.argument("store")
@click.option(
    "--after",
    type=click.IntRange(0, SEQ_NUM_MAX),
    default=0,
    metavar="NUMBER",
    show_default=True,
    help="Events after this number are sent again.",
)
@_of_a_server
def replay(*, webhook: str, store: str, after: int, as_json: bool, url: str | None, **flags: Any) -> None:
    """Deliver the events of STORE to WEBHOOK again, also where it was given up."""
    plane = ControlPlane.needed(url, flags)
    with plane.understood():
        answer = plane.post("/webhooks/replay", {"webhook": webhook, "storeId": store, "after": after})
        if as_json:
            printing.line(answer)
        else:
            tell(f"{store} is delivered to {webhook} from event e{after} on.")
