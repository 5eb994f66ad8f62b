"""The plan of system packages, on made-up machines: what is installed and what apt knows are given."""

from pathlib import Path

import pytest

from failsafe.diagnostics import debian

STANZA = """\
Types: deb
# a comment does not end a stanza
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""

EVERYTHING = {name: "1.0" for name in (*debian.GRAPHICS_LIBRARIES, *debian.BROWSER)}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that makes a machine with these packages, sources and candidates."""

    def make(
        identity: str, codename: str, installed: dict, *, sources: str = "", candidates: dict | None = None
    ) -> Path:
        (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
        (tmp_path / "etc/os-release").write_text(f'ID={identity}\nVERSION_CODENAME="{codename}"\n')
        (tmp_path / "etc/apt/sources.list.d/here.sources").write_text(sources)
        monkeypatch.setattr(debian, "_installed", lambda name: installed.get(name, ""))
        monkeypatch.setattr(debian, "_candidate", lambda name: (candidates or {}).get(name, ""))
        monkeypatch.setattr(
            debian.shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None
        )
        return tmp_path

    return make


def test_debian_12_with_its_own_mesa_gets_the_backports_of_its_own_mirror(machine):
    root = machine(
        "debian", "bookworm", {**EVERYTHING, "mesa-vulkan-drivers": "22.3.6-1+deb12u1"}, sources=STANZA
    )
    made = debian.plan(renderer=True, browser=True, root=root)
    assert made.remarks == ()
    assert made.lines[0] == (
        "echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian "
        "bookworm-backports main' > /etc/apt/sources.list.d/failsafe-backports.list"
    )
    assert made.lines[1] == "apt-get update -q"
    assert made.lines[2].endswith("-t bookworm-backports mesa-vulkan-drivers")
    assert len(made.lines) == 3


def test_backports_that_are_known_are_not_added_again(machine):
    sources = (
        STANZA
        + "\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\n"
    )
    root = machine("debian", "bookworm", EVERYTHING, sources=sources)
    assert debian.plan(renderer=True, browser=True, root=root).lines[0] == "apt-get update -q"


def test_a_complete_machine_gets_an_empty_plan(machine):
    root = machine(
        "debian", "bookworm", {**EVERYTHING, "mesa-vulkan-drivers": "25.0.7-2~bpo12+1"}, sources=STANZA
    )
    assert debian.plan(renderer=True, browser=True, root=root) == debian.AptPlan()


def test_each_purpose_has_a_line_of_its_own(machine):
    root = machine("debian", "trixie", {})
    lines = debian.plan(renderer=True, browser=True, root=root).lines
    ends = [line.split("--no-install-recommends ")[-1] for line in lines]
    assert ends == [
        "apt-get update -q",
        "libgl1 libglib2.0-0 libvulkan1 libxcb1",
        "mesa-vulkan-drivers",
        "chromium chromium-driver",
    ]


def test_what_is_not_asked_for_is_not_installed(machine):
    root = machine("debian", "trixie", {name: "1.0" for name in debian.GRAPHICS_LIBRARIES})
    assert debian.plan(renderer=False, browser=False, root=root) == debian.AptPlan()


def test_ubuntu_leaves_chromium_out_and_says_so(machine):
    root = machine("ubuntu", "noble", EVERYTHING)
    made = debian.plan(renderer=True, browser=True, root=root)
    assert [line.split()[-1] for line in made.lines] == ["-q", "mesa-vulkan-drivers"]
    assert "snap" in made.remarks[0]


def test_an_old_distribution_is_told_and_not_updated_again_and_again(machine):
    old = {"mesa-vulkan-drivers": "23.2.1-1ubuntu3.1"}
    root = machine("ubuntu", "jammy", {**EVERYTHING, **old}, candidates=old)
    made = debian.plan(renderer=True, browser=False, root=root)
    assert made.lines == ()
    assert "too old" in made.remarks[0]


def test_sources_are_read_from_both_formats_and_disabled_ones_are_not(tmp_path):
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text(
        "# deb http://commented.example/debian bookworm main\n"
        "deb-src http://source.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian bookworm main\n"
    )
    (folder / "off.sources").write_text(
        "Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: bookworm\n"
    )
    (folder / "on.sources").write_text(STANZA)
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert debian.apt_sources(tmp_path) == [
        ("bookworm", debian.AptSource("http://one.example/debian", "/k.gpg")),
        ("bookworm", debian.AptSource("http://mirror.example/debian", key)),
        ("bookworm-updates", debian.AptSource("http://mirror.example/debian", key)),
        ("bookworm-security", debian.AptSource("http://mirror.example/debian-security")),
    ]


@pytest.mark.parametrize(
    ("version", "recent"),
    [
        ("22.3.6-1+deb12u1", False),
        ("24.2.8-1", False),
        ("24.3.0-1", True),
        ("25.0.7-2~bpo12+1", True),
        ("1:24.10", True),
        ("", False),
    ],
)
def test_mesa_is_compared_by_number(version, recent):
    assert debian._mesa_is_recent(version) is recent


def test_without_root_the_lines_become_one_for_sudo(monkeypatch):
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    assert debian.as_one_line(["echo 'a b' > f", "c"]) == """sudo sh -c 'echo '"'"'a b'"'"' > f && c'"""
    monkeypatch.setattr(debian.os, "geteuid", lambda: 0)
    assert debian.as_one_line(["a", "b"]) == "a && b"
