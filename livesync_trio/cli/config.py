"""`livesync config`: every setting as it would count, and where it was given."""

import os
from collections.abc import Sequence
from typing import Any

import click

from livesync_trio.cli import showing
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.flags import configuration_flags
from livesync_trio.cli.showing import json_flag
from livesync_trio.config import URL_ENV, load, shown_settings


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also those that have their default.")
@click.option("--url", metavar="URL", envvar=URL_ENV, help=f"Those of the running server. [env: {URL_ENV}]")
@json_flag
@configuration_flags
def config(*, everything: bool, url: str | None, as_json: bool, **flags: Any) -> None:
    """Show the settings that `livesync serve` would have here, and where each was given; never a secret."""
    loaded = load(flags, os.environ)
    if url is not None:
        plane = ControlPlane(url, loaded.admin_secret)
        with plane.understood():
            _show(plane.get("/config")["settings"], everything, as_json)
        return
    for remark in loaded.remarks:
        click.echo(f"careful: {remark}", err=True)
    _show(shown_settings(loaded), everything, as_json)


def _show(settings: Sequence[dict[str, Any]], everything: bool, as_json: bool) -> None:
    chosen = [one for one in settings if everything or one["origin"] != "default"]
    if as_json:
        for setting in chosen:
            showing.line(setting)
        return
    showing.table(
        ("setting", "value", "from"),
        ((one["name"], _value(one), one["origin"]) for one in chosen),
        empty="Every setting has its default: --all shows them.",
    )


def _value(setting: dict[str, Any]) -> object:
    if setting["secret"]:
        return "(set)" if setting["set"] else None
    value = setting["value"]
    return ", ".join(map(str, value)) if isinstance(value, list) else value
