"""The load generator's process: one scenario against one server.

    python -m bench.load JOB        (JSON; the figures come as JSON on standard output)

A process of its own, so that its CPU time is known and a server's is not mixed with it.
"""

import gc
import json
import resource
import sys

import attrs

from bench.measuring import Ground
from bench.scenarios import SCENARIOS
from bench.sockets import Address, BenchError


@attrs.frozen
class Job:
    """What a load generator is to do.

    Attributes:
        scenario: its name.
        host: where the server listens.
        port: where the server listens.
        path: of the sync URL.
        pids: processes of the server.
        seconds: length of the window.
        scale: 1 for the sizes of the issue.
    """

    scenario: str
    host: str
    port: int
    path: str
    pids: list[int]
    seconds: float
    scale: float


def main() -> int:
    """Do the job of the command line."""
    job = Job(**json.loads(sys.argv[1]))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # this process lives for seconds, and its pauses would be taken for the server's
    ground = Ground(Address(job.host, job.port, job.path), job.pids, job.seconds, scale=job.scale)
    try:
        figures = SCENARIOS[job.scenario].run(ground)
    except (BenchError, OSError) as error:
        print(f"{job.scenario}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(attrs.asdict(figures)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
