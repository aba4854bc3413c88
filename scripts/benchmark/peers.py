"""The servers that ours is compared with: made ready once, from npm, then started for every run.

* **reference**: `@livestore/sync-cf` bundled by wrangler and served by workerd, as its users deploy it.
* **node**: a bare server for Node (`peers/node/server.mjs`), what one JavaScript thread can do.

Two more are not among `--peers`: **trio**, its counterpart in Python (`bare_trio.py`), which tells how much of ours is
Trio, the interpreter and the threads, and how much its rules; and **node-ws**, the Node server whose frames are built
and sent by `ws`, as the users of that library have it.

Versions are exact in each `package.json`; there is no lock file, because it would record where packages came from.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.benchmark.servers import Server
from scripts.benchmark.sockets import BenchError

_HERE: Final = Path(__file__).resolve().parent / "peers"
_NODE: Final = _HERE / "node"
_REFERENCE: Final = _HERE / "reference"
_INSTALL: Final = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts",
                   "--legacy-peer-deps")  # fmt: skip
REFERENCE_STORES: Final = 1_000
"""The reference keeps several files open per store, and opens fewer than a hundred a second."""

_LIMIT_S: Final = 900
"""For one step; better-sqlite3 is compiled, which takes a minute."""


def peers() -> list[Server]:
    """Both, made ready if they are not."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise BenchError(f"{program} is missing: install Node 20 or newer, or leave out --peers")
    return [_node(), reference()]


def yardsticks() -> list[Server]:
    """The bare server in Python, and Node's with the frames of its library."""
    module = [sys.executable, "-m", "scripts.benchmark.bare_trio"]
    bare = Server("trio", lambda port, data: [*module, str(port), str(data / "bench.db")])
    return [bare, _node("node-ws", "ws")]


def _node(name: str = "node", *more: str) -> Server:
    if not _made(_NODE):
        _do(_NODE, *_INSTALL)
        _do(_NODE / "node_modules" / "better-sqlite3", "npm", "run", "build-release", env=_local_headers())
        _note_made(_NODE)
    script = str(_NODE / "server.mjs")
    return Server(name, lambda port, data: ["node", script, str(port), str(data / "bench.db"), *more])


def reference() -> Server:
    """Cloudflare's server of 0.4, made ready if it is not."""
    if not _made(_REFERENCE):
        _do(_REFERENCE, *_INSTALL)
        wrangler = _REFERENCE / "node_modules" / ".bin" / "wrangler"
        quiet = {"WRANGLER_SEND_METRICS": "false", "CI": "1"}
        _do(_REFERENCE, str(wrangler), "deploy", "--dry-run", "--outdir", "dist", env=quiet)
        _note_made(_REFERENCE)
    workerd = next(_REFERENCE.glob("node_modules/@cloudflare/workerd-*/bin/workerd"), None)
    if workerd is None:
        raise BenchError("npm brought no workerd for this machine")
    template = (_REFERENCE / "workerd.capnp.in").read_text()

    def command(port: int, data: Path) -> list[str]:
        stores = data / "stores"
        stores.mkdir()
        shutil.copy(_REFERENCE / "dist" / "worker.js", data)
        config = data / "config.capnp"
        config.write_text(template.replace("@PORT@", str(port)).replace("@DATA@", str(stores)))
        return [str(workerd), "serve", str(config)]

    return Server("reference", command, most_stores=REFERENCE_STORES)


def _local_headers() -> dict[str, str]:
    """Headers of Node that are installed beside it, so that the compiler needs none from elsewhere."""
    node = Path(shutil.which("node") or "node").resolve()
    prefix = node.parent.parent
    return {"npm_config_nodedir": str(prefix)} if (prefix / "include" / "node" / "node.h").exists() else {}


def _fingerprint(directory: Path) -> str:
    digest = hashlib.sha256()
    for name in ("package.json", "worker.mjs", "wrangler.toml"):
        path = directory / name
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()


def _made(directory: Path) -> bool:
    stamp = directory / "node_modules" / ".made-from"
    return stamp.exists() and stamp.read_text() == _fingerprint(directory)


def _note_made(directory: Path) -> None:
    (directory / "node_modules" / ".made-from").write_text(_fingerprint(directory))


def _do(directory: Path, *command: str, env: dict[str, str] | None = None) -> None:
    finished = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if finished.returncode != 0:
        raise BenchError(f"{' '.join(command)} failed:\n{finished.stdout[-3000:]}")
