"""Settings of the console."""

import attrs

from livesync_trio.config.declaring import declare
from livesync_trio.config.groups import Group


@attrs.frozen(kw_only=True, slots=False)
class ConsoleSettings(Group):
    """The console and who may sign in. See `docs/console.md`."""

    console: bool = declare(False, "true or false", "Serve the console on the control plane.")
