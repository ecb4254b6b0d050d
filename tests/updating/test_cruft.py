"""cruft brings a project to this version, too. Nothing of the template depends on it."""

import json
from pathlib import Path

import pytest

from ..bakes import Answers
from ..tools import needs
from . import repositories as repo
from . import team


@pytest.mark.exhaustive
@pytest.mark.parametrize("answers", team.SETS.values(), ids=team.SETS)
def test_cruft_updates_an_old_project(template: Path, tmp_path: Path, answers: Answers) -> None:
    cruft = needs("cruft")
    config = tmp_path / "config.json"
    folders = {name: str(tmp_path / name) for name in ("cookiecutters_dir", "replay_dir")}
    config.write_text(json.dumps(folders))
    create = (cruft, "create", "--no-input", "--config-file", str(config))
    options = ("--checkout", f"v{repo.VERSION}~", "--extra-context", json.dumps(answers))
    done = repo.run(tmp_path, *create, *options, str(template), TMPDIR=str(tmp_path))
    assert done.code == 0, done.output
    project = tmp_path / answers.get("project_slug", "tornado-service")
    generated = repo.begin(project)
    edited = team.edit(project)
    update = (cruft, "update", "--skip-apply-ask", "--checkout", f"v{repo.VERSION}")
    done = repo.run(project, *update, TMPDIR=str(tmp_path))
    assert done.code == 0, done.output
    repo.resolve(project)
    repo.commit(project)
    assert not list(project.rglob("*.rej"))
    team.check_nothing_lost(project, generated, edited)
    own = {*repo.git(project, "diff", "--name-only", generated, edited).split("\n"), ".cruft.json"}
    team.check_all_arrived(template, project, tmp_path / "fresh", own, answers)
    done = repo.run(project, *update, TMPDIR=str(tmp_path))
    assert "already up to date" in done.output
    # From here on the project can go the other way.
    done = repo.update(template, project)
    assert (done.code, done.output.partition(":")[0]) == (0, "Nothing to do")
