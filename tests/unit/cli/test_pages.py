"""What README.md, docs/ and the other pages name is there, and a block that is wrong is found out."""

from __future__ import annotations

import contextlib
import os
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import typer.main
from gatehouse import cli

from tests.support.documentation import Surroundings, run
from tests.support.gateway import REPOSITORY
from tests.support.markdown import blocks, indented_code, pages

PAGES = pages(REPOSITORY)
VARIABLE = re.compile(r"\bGATEHOUSE_[A-Z_]+[A-Z]\b")
FOLDERS = "adapter|bench|docs|evaluation|examples|guardrails|prisma-engine|prometheus|scripts|tests"


@pytest.mark.parametrize("page", PAGES)
def test_every_code_of_a_page_has_a_fence(page: str) -> None:
    assert indented_code((REPOSITORY / page).read_text()) == [], "put code between ``` and name its language"


def test_the_paths_that_the_readme_names_exist() -> None:
    named = re.findall(r"^\| `([\w./-]+)` \|", (REPOSITORY / "README.md").read_text(), re.M)
    assert len(named) > 8
    assert [path for path in named if path != ".env" and not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_within_the_repository_lead_somewhere(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    for target in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        file = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert file.exists(), f"{page}: {target}: there is no such file"
        if anchor:
            assert anchor in headings(file.read_text()), f"{page}: {target}: there is no such heading"


def headings(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*?) *$", text, re.M)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_the_readme_leads_to_every_page() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert [page for page in PAGES if page.startswith("docs/") and f"({page}" not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_variables_files_and_commands_that_a_page_names_exist(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    assert set(VARIABLE.findall(text)) <= variables()
    for path in re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text):
        assert (REPOSITORY / path).exists(), f"{page}: there is no {path}"
    for line in re.findall(r"(?:`|\$ |^)gatehouse ([a-z][a-z -]*)", text, re.M):
        group, *rest = (word for word in line.split() if not word.startswith("-"))
        assert group in commands(), f"{page}: there is no `gatehouse {group}`"
        if commands()[group] and rest:
            assert rest[0] in commands()[group], f"{page}: there is no `gatehouse {group} {rest[0]}`"


@cache
def variables() -> set[str]:
    """Return the variables that the sources and the shell scripts read."""
    files = [REPOSITORY / name for name in ("setup.sh", "docker-compose.yml", "Dockerfile", ".env.example")]
    for folder in ("guardrails", "adapter", "tests"):
        files += (REPOSITORY / folder).rglob("*.py")
    return {name for path in files for name in VARIABLE.findall(path.read_text())}


@cache
def commands() -> dict[str, set[str]]:
    """Return the commands of `gatehouse`, each with its subcommands."""
    for part in cli._PARTS:
        import_module(f"gatehouse.cli.{part}")
    groups = typer.main.get_command(cli.app).commands
    return {name: set(getattr(command, "commands", {})) for name, command in groups.items()}


PAGE = """# Title

<!-- exit: 3 -->
<!-- file: a.py -->
```python
print("two")
```
```text
one
```

    curl somewhere
"""


def test_a_block_knows_its_remarks_and_its_output(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    program, output = blocks(tmp_path, "page.md")
    assert (str(program), program.remarks) == ("page.md:5", {"exit": "3", "file": "a.py"})
    assert program.output == output
    assert indented_code(PAGE) == [12]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ('```python\nprint("two")\n```\n```text\none\n```', "shown:"),
        ("```python\nraise SystemExit(1)\n```", "page.md:1"),
        ("```sh\nfalse | true\n```", "page.md:1"),
        ("```console\n$ echo two\none\n```", "shown:"),
        ("```console\necho two\n```", "commands"),
        ("```yaml\nversion: 1\nrules: [{id: a, when: caller.taem, then: deny}]\n```", "caller.team"),
        ("```yaml\nservices: {}\n```", "neither"),
        ("```yaml\nlitellm_settings: {callbacks: [gatehouse.core.home.nothing]}\n```", "gatehouse.core.home.nothing"),
        ("```json\n{\n```", "Expecting"),
        ("```ruby\nputs 1\n```", "no way to run"),
        ("```\nls\n```", "without a language"),
    ],
)
def test_a_block_that_is_wrong_fails(tmp_path: Path, code: str, why: str) -> None:
    (tmp_path / "page.md").write_text(code + "\n")
    block = blocks(tmp_path, "page.md")[0]
    with pytest.raises(Exception, match=why):
        run(block, Surroundings(tmp_path, dict(os.environ), "http://127.0.0.1:1", ""))


def test_output_may_differ_in_its_values_and_in_nothing_else(tmp_path: Path) -> None:
    shown = "2,206 records, 1 checkpoint, head 8c3243690350e8b567e62ad8 of … at 2026-11-21T08:04:12+00:00\n"
    said = "1 record, 2 checkpoints, head 0123456789abcdef of what you like at 2027-01-01T00:00:00Z"
    around = Surroundings(tmp_path, dict(os.environ), "", "")
    for text, right in ((said, True), (said.replace("head", "tail"), False), (said + " and more", False)):
        (tmp_path / "page.md").write_text(f"```console\n$ echo '{text}'\n{shown}```\n")
        with contextlib.nullcontext() if right else pytest.raises(AssertionError):
            run(blocks(tmp_path, "page.md")[0], around)
