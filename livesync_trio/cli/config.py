"""`livesync config`: every setting as it would count, and where it was given."""

import os
from collections.abc import Sequence
from typing import Any

import click

from livesync_trio.cli import printing
from livesync_trio.cli.control_plane import ControlPlane
from livesync_trio.cli.options import configuration_options, json_option, url_option
from livesync_trio.cli.printing import tell
from livesync_trio.config import load, shown_settings


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also settings that have their default.")
@url_option("Those of the running server, by its control plane.")
@json_option
@configuration_options("host", "port", "database_url")
def config(*, everything: bool, url: str | None, as_json: bool, **flags: Any) -> None:
    """Show the settings that `livesync serve` would have here, and where each was given; never a secret.

    Takes every option of `livesync serve`.
    """
    loaded = load(flags, os.environ)
    if url is not None:
        plane = ControlPlane(url, loaded.admin_secret)
        with plane.understood():
            _show(plane.get("/config")["settings"], everything, as_json)
        return
    for remark in loaded.remarks:
        tell(f"warning: {remark}", err=True)
    _show(shown_settings(loaded), everything, as_json)


def _show(settings: Sequence[dict[str, Any]], everything: bool, as_json: bool) -> None:
    chosen = [one for one in settings if everything or one["origin"] != "default"]
    if as_json:
        for setting in chosen:
            printing.line(setting)
        return
    printing.table(
        ("setting!", "value_", "from_"),
        ((one["name"], _value(one), one["origin"]) for one in chosen),
        empty="Every setting has its default: --all shows them.",
    )


def _value(setting: dict[str, Any]) -> object:
    if setting["secret"]:
        return "(set)" if setting["set"] else None
    value = setting["value"]
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return str(value) if type(value) is int else value  # a port has no thousands
