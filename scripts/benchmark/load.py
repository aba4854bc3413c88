"""The load generator's process: one scenario against one server.

    python -m scripts.benchmark.load JOB        (JSON; the figures come as JSON on standard output)

A process of its own, so that its CPU time is known and a server's is not mixed with it.
"""

import gc
import json
import resource
import subprocess
import sys
from typing import Any, Final

import attrs
from scripts.benchmark import ROOT
from scripts.benchmark.measuring import Ground
from scripts.benchmark.scenarios import SCENARIOS
from scripts.benchmark.scenarios.growth import CURVES
from scripts.benchmark.sockets import Address, BenchError


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
        most_stores: how many stores the server can keep open.
        sizes: for the curves, which ask a scenario for other sizes than its own.
    """

    scenario: str
    host: str
    port: int
    path: str
    pids: list[int]
    seconds: float
    scale: float = 1.0
    most_stores: int = 1_000_000
    sizes: dict[str, int] = attrs.field(factory=dict)


LIMIT_S: Final = 1_800.0
"""For one job; the longest fills a log of two million events first."""


def run(job: Job) -> dict[str, Any]:
    """Do a job in a process of its own.

    Raises:
        BenchError: the server did something else than it must.
    """
    command = [sys.executable, "-m", "scripts.benchmark.load", json.dumps(attrs.asdict(job))]
    finished = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=LIMIT_S, check=False)  # fmt: skip
    if finished.returncode != 0:
        raise BenchError(finished.stderr.strip()[-1500:] or f"the load generator ended with {finished.returncode}")
    answer: dict[str, Any] = json.loads(finished.stdout)
    return answer


def main() -> int:
    """Do the job of the command line."""
    job = Job(**json.loads(sys.argv[1]))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # this process lives for seconds, and its pauses would be taken for the server's
    address = Address(job.host, job.port, job.path)
    ground = Ground(address, job.pids, job.seconds, scale=job.scale, most_stores=job.most_stores)
    try:
        if job.scenario in CURVES:
            answer = CURVES[job.scenario](ground, **job.sizes)
        else:
            answer = attrs.asdict(SCENARIOS[job.scenario].run(ground))
    except (BenchError, OSError) as error:
        print(f"{job.scenario}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
