"""The benchmark: a load generator that speaks LiveStore 0.4 to any server, and what is made of its figures.

Stands outside the product and imports nothing of it: what it measures is what comes out of a socket, and what the
kernel says the server's process used. `scripts/bench` is the way in; `docs/performance.md` tells what it found.

| module | what it is |
|---|---|
| `cli`, `session`, `report`, `check` | the program: options, alternating runs and medians, the table, the gate of CI |
| `servers`, `peers` | starts ours; installs and starts those it is compared with |
| `bare_trio` | a yardstick: what one Trio thread and one writer thread can do without our rules |
| `counting`, `counted` | `--count`: instructions, Python calls and system calls; the server that counts itself |
| `load` | the load generator's process: one scenario against one server, figures as JSON |
| `scenarios` | what is done to the server |
| `wire`, `sockets`, `clients`, `http_client` | frames made by hand, an epoll loop, clients as cheap as can be |
| `processes` | CPU time and memory of the server's process |
| `curves`, `pictures` | how cost grows, as JSON and as SVG |
"""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""Of the repository."""
