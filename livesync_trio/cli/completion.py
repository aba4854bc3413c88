"""`livesync completion`: the script with which a shell completes commands and flags."""

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_LIVESYNC_COMPLETE"
"""By this the script asks the program; click's convention."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print the completion script for SHELL.

    For bash: `livesync completion bash >> ~/.bashrc`.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, "livesync", _VARIABLE).source())
