"""`python -m livesync_trio`: the same as the command `livesync`."""

import sys

from livesync_trio.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
