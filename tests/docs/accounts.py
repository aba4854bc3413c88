"""Who accounts for each command that a page shows: this folder runs it unless a table here says otherwise.

A page that shows a new command needs nothing here as long as the command works in the sandbox as it stands.
"""

from __future__ import annotations

import attrs

from tests.docs.pages import Command


@attrs.frozen
class Rule:
    """Commands that are not run by this folder."""

    page: str
    begins: tuple[str, ...]
    """How they begin."""
    instead: str
    """The test that runs them, or why nobody can."""

    def __str__(self) -> str:
        return f"{self.page}: {self.begins[0]}"

    def fits(self, command: Command) -> bool:
        """Whether it speaks of this command."""
        return command.page == self.page and command.text.startswith(self.begins)


_OPERATORS_PAGES = "tests/cli/test_documents.py::test_the_commands_shown_work"
_SETTING_UP = "tests/deploy/test_documentation.py::test_the_commands_for_a_machine_of_ones_own_set_everything_up"
_LIVESTORE = "tests/conformance/test_livestore_cli.py::test_what_it_imports_it_exports"
_SECRETS = "tests/deploy/test_container.py::test_the_secrets_that_the_script_makes_are_those_that_are_read"
_TODO = "tests/conformance/test_todo_example.py::test_what_one_adds_another_ticks_off"
_BUCKET = "tests/backups/test_bucket.py::test_commands_write_list_verify_and_restore"

RUN_BY = (
    Rule("docs/command-line.md", ("export ", "livesync "), _OPERATORS_PAGES),
    Rule("docs/moving-in.md", ("export ", "livesync "), _OPERATORS_PAGES),
    Rule(
        "docs/backup.md",
        ("export ", "livesync restore ", "livesync verify", "livesync backup backup."),
        _OPERATORS_PAGES,
    ),
    Rule("docs/backup.md", ("livesync backup now.jsonl",), _OPERATORS_PAGES),
    Rule("docs/start.md", ("cd examples/todo", "npm run web", "node todo.mjs"), _TODO),
    Rule("examples/README.md", ("npm install", "npm run web"), _TODO),
    Rule("docs/backup.md", ("LIVESYNC_BACKUP_", "livesync backups"), _BUCKET),
    Rule(
        "docs/deployment.md",
        ("install ", "(umask ", "systemctl ", "apt-get install --yes caddy", "printf "),
        _SETTING_UP,
    ),
    Rule("docs/deployment.md", ("deploy/make-secrets",), _SECRETS),
    Rule("docs/livestore-cli.md", ("npx livestore",), _LIVESTORE),
    Rule("docs/change-feed.md", ("livesync feed ",), "tests/feed/test_commands.py::test_the_commands"),
    Rule(
        "docs/console.md",
        ("livesync operators ",),
        "tests/operators/test_several_servers.py::test_the_commands_shown_work",
    ),
    Rule(
        "docs/webhooks.md",
        ("livesync webhooks ",),
        "tests/delivery/test_command_line.py::test_the_commands_shown_work",
    ),
    Rule("docs/performance.md", ("scripts/bench --check",), "tests/bench/test_cpu_per_unit.py::test_cpu_per_unit"),
)
"""Commands that another test runs; it must exist, in a file that names the page or the program."""

NOT_HERE = (
    Rule("CONTRIBUTING.md", ("scripts/test", ".venv/bin/python -m pytest"), "it would run this very test again"),
    Rule("docs/start.md", (". .venv/bin/activate",), "the sandbox has `livesync` on its path"),
    Rule("docs/livestore-cli.md", ("npm install",), "the reader's own application; the test has its packages pinned"),
    Rule("docs/deployment.md", ("scripts/build-binary",), "minutes; it has a `--check` of its own"),
    Rule("docs/deployment.md", ("scp ",), "another machine"),
    Rule("docs/deployment.md", ("heroku ", "git push heroku"), "an account; tests/deploy/test_platform.py"),
    Rule("docs/livestore-in-python.md", ("pip install",), "a package registry"),
    Rule("docs/backup.md", (".venv/bin/pip install",), "a package registry"),
    Rule("docs/deployment.md", ("kubectl ",), "a cluster; tests/deploy/test_platform_files.py"),
    Rule("docs/deployment.md", ("docker ", "SITE="), "a container engine; tests/deploy/test_container.py"),
    Rule("docs/performance.md", ("scripts/bench",), "minutes of load; its flags are looked at"),
    Rule("docs/guarantees.md", ("scripts/torture",), "minutes to hours; its flags are looked at"),
)
"""Commands that cannot be run in a test, and why."""


def run_by(command: Command) -> Rule | None:
    """The rule about the test elsewhere that runs a command."""
    return next((rule for rule in RUN_BY if rule.fits(command)), None)


def not_here(command: Command) -> Rule | None:
    """The rule that says why a command is not run."""
    return None if run_by(command) else next((rule for rule in NOT_HERE if rule.fits(command)), None)


def ours(command: Command) -> bool:
    """Whether the sandbox runs it."""
    return run_by(command) is None and not_here(command) is None
