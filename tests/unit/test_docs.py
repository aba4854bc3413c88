"""The documentation says what the code does."""

import ast
import re
import tomllib
from pathlib import Path

import attrs
import click
import pytest

import livesync_trio
from livesync_trio import hooks
from livesync_trio.cli.main import livesync
from livesync_trio.config import SETTINGS, Config, load
from livesync_trio.errors import RULES
from scripts import docs_tables

ROOT = docs_tables.ROOT
DOCUMENTS = docs_tables.documents()


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: str, language: str) -> list[str]:
    """The code blocks of one language in a document."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_tables_are_those_of_the_code(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert docs_tables.refreshed(text) == text, "run: python -m scripts.docs_tables"


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("docs/configuration.md", "settings"),
        ("docs/errors.md", "errors"),
        ("docs/observability.md", "metrics"),
    ],
)
def test_tables_are_where_they_belong(path: str, table: str) -> None:
    assert docs_tables.table_names((ROOT / path).read_text(encoding="utf-8")) == [table]


def test_a_table_that_is_out_of_date_is_noticed() -> None:
    stale = "a\n<!-- table: errors -->\nSTALE\n<!-- end of table -->\nb\n"
    fresh = docs_tables.refreshed(stale)
    assert fresh.startswith("a\n<!-- table: errors -->\n")
    assert fresh.endswith("<!-- end of table -->\nb\n")
    assert "STALE" not in fresh
    assert all(f"| `{kind}` |" in fresh for kind in RULES)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)\)", path.read_text(encoding="utf-8"))
    dead = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert dead == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        for target in re.findall(r"\]\(([^)#\s:]+)\)", page.read_text(encoding="utf-8")):
            found = (page.parent / target).resolve()
            pages = sorted(found.glob("*.md")) if found.is_dir() else [found]
            ahead += [linked for linked in pages if linked.suffix == ".md" and linked not in seen]
    assert set(DOCUMENTS) - seen == set()


def test_the_configuration_file_shown_is_right(tmp_path: Path) -> None:
    (example,) = blocks("docs/configuration.md", "toml")
    secret = tmp_path / "token"
    secret.write_text("c0ffee")
    assert "/run/secrets/livesync-token" in example
    file = tmp_path / "livesync.toml"
    file.write_text(example.replace("/run/secrets/livesync-token", str(secret)))
    assert attrs.asdict(load({"config": str(file)}, {})).keys() >= tomllib.loads(example).keys() - {"auth_token_file"}


@pytest.mark.parametrize("path", sorted((ROOT / "docs/decisions").glob("0*.md")), ids=name_of)
def test_decisions_have_one_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert f"]({path.name})" in (path.parent / "README.md").read_text(encoding="utf-8")


def test_every_setting_has_a_heading_to_link_to() -> None:
    headings = re.findall(r"^#### `(\S+)`$", (ROOT / "docs/configuration.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [setting.env or setting.name for setting in SETTINGS]


def test_every_hook_is_explained() -> None:
    page = (ROOT / "docs/hooks.md").read_text(encoding="utf-8")
    for hook in attrs.fields(hooks.Hooks):
        assert f"| `{hook.name}(" in page
    for value in (hooks.HookContext, hooks.HookEvent, hooks.HookCursor, hooks.HookPage, hooks.HookPushResult):
        for field in attrs.fields(value):
            assert f"`{field.name}`" in page, f"{value.__name__}.{field.name}"


def test_the_hooks_shown_can_be_loaded(tmp_path: Path) -> None:
    file = tmp_path / "rules.py"
    file.write_text(blocks("docs/hooks.md", "python")[0])
    loaded = hooks.load_hooks(str(file))
    assert loaded.validate_payload is not None
    context = hooks.HookContext("notes", None, {}, "127.0.0.1:5000")
    loaded.validate_payload({"authToken": "sesame"}, context)
    with pytest.raises(livesync_trio.Refused):
        loaded.validate_payload(None, context)


def test_the_program_shown_uses_what_there_is() -> None:
    program = ast.parse(blocks("docs/hooks.md", "python")[1])
    imported = [node for node in ast.walk(program) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in imported for alias in node.names if node.module == "livesync_trio"]
    assert names
    assert [name for name in names if not hasattr(livesync_trio, name)] == []
    assert Config(port=9000).port == 9000


def test_scripts_named_in_the_readme_can_be_run() -> None:
    for name in set(re.findall(r"\bscripts/(\w+)", (ROOT / "README.md").read_text(encoding="utf-8"))):
        assert (ROOT / "scripts" / name).stat().st_mode & 0o111, name


def test_flags_named_in_the_documentation_exist() -> None:
    serve = livesync.get_command(click.Context(livesync), "serve")
    assert serve is not None
    known = {opt for param in serve.params if isinstance(param, click.Option) for opt in param.opts}
    for path in [ROOT / "docs/configuration.md"]:
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", path.read_text(encoding="utf-8")))
        assert named <= known, path
