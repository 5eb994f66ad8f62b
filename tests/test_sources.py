"""What counts as the code of a class: its module and the user's own modules that this one imports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from failsafe.sources import changed_code, fingerprint_of_module, sources_of_module

INSTALLED = "lib/site-packages/sfp_installed"
FILES = {
    "sfp_policy.py": "import json, numpy\nimport sfp_kit.nets\n\ndef late():\n    import sfp_late\n",
    "sfp_kit/__init__.py": "",
    "sfp_kit/nets.py": "from . import layers\nfrom ..outside import nothing\n",
    "sfp_kit/layers.py": "from sfp_installed import thing\nimport failsafe.models\n",
    "sfp_late.py": "import sfp_policy  # a cycle\n",
}
"""What belongs to the code of the first file."""
OTHERS = {
    "sfp_kit/unused.py": "",
    "sfp_other.py": "",
    f"{INSTALLED}/__init__.py": "from .deep import thing\n",
    f"{INSTALLED}/deep.py": "import sfp_other\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's project: a policy, a package that it uses, and what does not belong to the policy."""
    for name, text in {**FILES, **OTHERS}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "lib/site-packages"))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_sources_are_what_a_module_imports_of_the_users_own(folder: Path) -> None:
    found = sources_of_module("sfp_policy")
    assert {str(file.relative_to(folder)) for file in found.values()} == set(FILES)
    assert not any(name.startswith("sfp_") for name in sys.modules), "nothing is imported"
    # The package of the class itself counts where it is installed: it is a plugin.
    assert list(sources_of_module("sfp_installed")) == ["sfp_installed", "sfp_installed.deep", "sfp_other"]


@pytest.mark.parametrize("name", [*FILES, *OTHERS])
def test_a_change_of_the_sources_changes_the_fingerprint(folder: Path, name: str) -> None:
    before = fingerprint_of_module("sfp_policy")
    file = folder / name
    file.write_text(file.read_text() + "# changed\n")
    assert (fingerprint_of_module("sfp_policy") != before) == (name in FILES)


def test_code_without_a_source_has_no_fingerprint(folder: Path) -> None:
    (folder / "sfp_broken.py").write_text("def (:")
    assert len(fingerprint_of_module("sfp_broken")) == 64, "loading it says what is wrong"
    for name in ("no_such_module", "sfp_policy.nothing", "failsafe.models.compact", "sys"):
        assert fingerprint_of_module(name) == "", name


def test_what_differs_is_said() -> None:
    before = {"failsafe": "0.1", "task a:b": "1", "mode c:d": "2"}
    assert changed_code(before, dict(before)) == []
    assert changed_code(before, {**before, "failsafe": "0.2", "task a:b": "3"}) == [
        "the version of FailSafe (0.1 then, 0.2 now)",
        "the code of the task a:b",
    ]
    assert changed_code({}, {"failsafe": "0.2"}) == ["the version of FailSafe (not recorded then, 0.2 now)"]
