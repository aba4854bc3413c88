"""Follows a Dockerfile without a container engine: COPY and RUN in a scratch directory that stands for the root.

Only what ours needs: stages, WORKDIR, ENV, COPY, RUN, and what the image says about how to start it. Absolute paths
below `PREFIXES` are taken to be inside the scratch directory; everything else is this machine's.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from dockerfile_parse import DockerfileParser

PREFIXES = ("/opt/", "/src", "/data")
STEP_LIMIT_S = 900


class Image:
    """What the last stage leaves behind."""

    def __init__(self, context: Path, scratch: Path) -> None:
        """`context` holds the Dockerfile; nothing is done until `build`."""
        self.context = context
        self.root = scratch
        self.environment: dict[str, str] = {}
        self.settings: dict[str, str] = {}
        self.workdir = scratch
        self.stages: list[str] = []
        self._steps: list[dict[str, Any]] = DockerfileParser(str(context / "Dockerfile")).structure
        ignored = (context / ".dockerignore").read_text().split("\n")
        self._rules = [line for line in ignored if line and not line.startswith("#")]

    def build(self) -> None:
        """Carry out every step."""
        for step in self._steps:
            getattr(self, f"_{step['instruction'].lower()}", self._remember)(step["value"])

    def exec_form(self, instruction: str) -> list[str]:
        """The program and its arguments; fails when they would go through a shell."""
        command = json.loads(self.settings[instruction])
        assert isinstance(command, list)
        return command

    def in_context(self, path: str) -> bool:
        """Whether .dockerignore lets a path through: the last rule that fits decides."""
        allowed = True
        for rule in self._rules:
            if fnmatch.fnmatch(path, rule.removeprefix("!").replace("**/", "*")):
                allowed = rule.startswith("!")
        return allowed

    def run(self, *command: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """A program in the finished image."""
        return subprocess.run(
            command, cwd=self.workdir, env=self.environment, capture_output=True, text=True, check=False, **how
        )

    # --- the instructions --------------------------------------------------------------------------------------------

    def _comment(self, _: str) -> None:
        pass

    def _remember(self, value: str) -> None:
        raise AssertionError(f"the Dockerfile uses something that this does not know: {value}")

    def _from(self, value: str) -> None:
        self.stages.append(value)
        self.environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(self.root)}
        self.environment |= {name: text for name, text in os.environ.items() if name.startswith("PIP_")}
        self.environment["PIP_NO_COMPILE"] = "1"  # it would take longer than all the rest
        self.settings = {}
        self.workdir = self.root

    def _env(self, value: str) -> None:
        for name, text in re.findall(r"(\w+)=(\S+)", value.replace("\\\n", " ")):
            if name == "PIP_NO_CACHE_DIR":  # the cache would be in the image; here it is this machine's
                continue
            inside = self._inside(text)
            self.environment[name] = f"{inside}:{os.environ['PATH']}" if name == "PATH" else inside
            self.settings[f"ENV {name}"] = text

    def _workdir(self, value: str) -> None:
        self.workdir = Path(self._inside(value))
        self.workdir.mkdir(parents=True, exist_ok=True)

    def _copy(self, value: str) -> None:
        flags = [word for word in value.split() if word.startswith("--")]
        *sources, target = [word for word in value.split() if not word.startswith("--")]
        if any(flag.startswith("--from=") for flag in flags):
            assert sources == [target], "here a stage is the same directory as the one before"
            return
        for source in sources:
            assert self.in_context(source), f"{source} is in .dockerignore"
            destination = self.workdir / target / (source if target.endswith("/") else "")
            if (self.context / source).is_dir():
                shutil.copytree(self.context / source, destination, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(self.context / source, destination)

    def _run(self, value: str) -> None:
        step = self.run("sh", "-euc", self._inside(value), timeout=STEP_LIMIT_S)
        assert step.returncode == 0, f"RUN {value}\n{step.stdout}\n{step.stderr}"

    def _user(self, value: str) -> None:
        self.settings["USER"] = value

    def _volume(self, value: str) -> None:
        self.settings["VOLUME"] = value

    def _expose(self, value: str) -> None:
        self.settings["EXPOSE"] = value

    def _entrypoint(self, value: str) -> None:
        self.settings["ENTRYPOINT"] = value

    def _cmd(self, value: str) -> None:
        self.settings["CMD"] = value

    def _healthcheck(self, value: str) -> None:
        flags, _, command = value.partition("CMD ")
        self.settings["HEALTHCHECK"] = command
        self.settings["HEALTHCHECK flags"] = flags

    def _inside(self, text: str) -> str:
        for prefix in PREFIXES:
            text = re.sub(rf"(?<![\w.]){re.escape(prefix)}", f"{self.root}{prefix}", text)
        return text
