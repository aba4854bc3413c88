"""Installs the npm packages of the real clients, once per content of each ``package.json``.

Run as a program (``python tests/conformance/node_packages.py``) by ``scripts/test``, and called by the fixtures, so
that a plain ``pytest`` works in a fresh clone too. Versions are exact in each ``package.json``; no lock file is kept,
because a lock file records where packages were downloaded from.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
PACKAGE_SETS = ("v0.3", "v0.4", "runtime-0.4", "axe")
SERVERS = "cloudflare"
"""What runs Cloudflare's servers; several test files need it."""

INSTALL_DEADLINE_S = 300

_INSTALL_FLAGS = ("--no-package-lock", "--no-audit", "--no-fund", "--legacy-peer-deps", "--ignore-scripts")


def missing_programs() -> list[str]:
    """The programs these tests need and this machine lacks: empty, or some of ``node`` and ``npm``."""
    return [program for program in ("node", "npm") if shutil.which(program) is None]


def _fingerprint(directory: Path) -> str:
    return hashlib.sha256((directory / "package.json").read_bytes()).hexdigest()


def install(package_set: str) -> bool:
    """Make ``node_modules`` of one package set match its ``package.json``.

    Returns whether anything had to be installed. Raises ``RuntimeError`` with npm's own words when it fails; a stamp is
    written only after success, so an interrupted installation is done again.
    """
    directory = CLIENTS / package_set
    stamp = directory / "node_modules" / ".installed-from"
    wanted = _fingerprint(directory)
    if stamp.exists() and stamp.read_text() == wanted:
        return False
    finished = subprocess.run(
        ["npm", "install", *_INSTALL_FLAGS],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_DEADLINE_S,
        check=False,
    )
    if finished.returncode != 0:
        raise RuntimeError(f"npm install in {directory} failed:\n{finished.stdout[-4000:]}")
    stamp.write_text(wanted)
    return True


def main() -> int:
    """Install every package set; exit code 3 when Node or npm is missing."""
    missing = missing_programs()
    if missing:
        print(f"not installed: {' and '.join(missing)}; the conformance tests cannot run", file=sys.stderr)
        return 3
    for package_set in (*PACKAGE_SETS, SERVERS):  # before test files that run side by side want the same
        installed = install(package_set)
        print(f"{package_set}: {'installed' if installed else 'up to date'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
