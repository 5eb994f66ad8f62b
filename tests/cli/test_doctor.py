"""The checks of `failsafe doctor`, each made to pass and to fail."""

import json
import subprocess
import sys

import pytest

from failsafe.cli import doctor
from failsafe.diagnostics import checks as machine
from failsafe.diagnostics import debian
from failsafe.diagnostics.checks import Check
from failsafe.simulators import suites

GOOD = Check("numpy", True, "2.4.6")
NO_RENDERER = Check("renderer", False, "no device", "apt-get install x", "rendering")
NO_VULKAN = Check("Vulkan device", False, "no device", "apt-get install x")
NO_SAPIEN = Check("sapien", False, "not installed", "pip install sapien==3.0.3")


def done(code: int = 0, out: str = "", err: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(["python"], code, out, err)


@pytest.fixture
def apt_fix(monkeypatch):
    """Make the package plan a known line, whatever this machine has."""
    monkeypatch.setattr(debian, "plan", lambda **_: debian.AptPlan(("apt-get install what-is-missing",)))
    monkeypatch.setattr(debian.os, "geteuid", lambda: 0)
    return "apt-get install what-is-missing"


@pytest.mark.parametrize(
    ("checks", "code", "ending"),
    [
        ([GOOD], 0, "Ready for everything."),
        ([GOOD, NO_RENDERER], 0, "Not ready for rendering."),
        ([GOOD, NO_VULKAN, NO_RENDERER], 1, "Not ready for generating, rendering."),
        ([NO_SAPIEN, NO_RENDERER], 1, "Not ready for generating, rendering."),
    ],
)
def test_the_exit_code_tells_whether_generating_works(monkeypatch, capsys, checks, code, ending):
    monkeypatch.setattr(doctor, "run_checks", lambda: checks)
    assert doctor.doctor() == code
    assert capsys.readouterr().out.rstrip().endswith(ending)


def test_json_holds_every_check(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run_checks", lambda: [GOOD, NO_SAPIEN])
    assert doctor.doctor(json=True) == 1
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "checks": [
            {"name": "numpy", "ok": True, "found": "2.4.6", "fix": "", "needed_for": "generating"},
            {
                "name": "sapien",
                "ok": False,
                "found": "not installed",
                "fix": "pip install sapien==3.0.3",
                "needed_for": "generating",
            },
        ],
    }


def test_plain_lines_name_the_command_that_mends(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run_checks", lambda: [NO_SAPIEN])
    doctor.doctor()
    out = capsys.readouterr().out
    assert "no  sapien: not installed (needed for generating)" in out
    assert "To mend sapien (needed for generating):\n  pip install sapien==3.0.3\n" in out


def test_a_package_that_imports_is_in_order():
    check = machine.check_package("numpy", "numpy", "generating")
    assert check.ok
    assert check.found[0].isdigit()


def test_a_package_that_is_not_there_is_installed_by_name():
    check = machine.check_package("no-such-distribution", "no_such_module", "generating")
    assert not check.ok
    assert check.fix == f"{sys.executable} -m pip install no-such-distribution"


def test_a_package_that_does_not_import_says_why():
    check = machine.check_package("numpy", "numpy.no_such_part", "generating")
    assert not check.ok
    assert "No module named 'numpy.no_such_part'" in check.found
    assert check.fix.endswith("--force-reinstall")


def test_a_package_of_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(
        machine.importlib.metadata, "requires", lambda _: ['mani_skill==9.9 ; extra == "maniskill"']
    )
    monkeypatch.setattr(machine.importlib.metadata, "version", lambda _: "3.0.1")
    check = machine.check_package("mani_skill", "mani_skill", "generating")
    assert check.found == "3.0.1, but 9.9 is needed"
    assert check.fix.endswith("pip install mani_skill==9.9")


def test_a_build_tag_is_not_another_version(monkeypatch):
    monkeypatch.setattr(
        machine.importlib.metadata, "requires", lambda _: ['torch==2.13.0; extra == "maniskill"']
    )
    monkeypatch.setattr(machine.importlib.metadata, "version", lambda _: "2.13.0+cpu")
    monkeypatch.setattr(machine, "_python", lambda *_: done())
    assert machine.check_package("torch", "torch", "generating").ok


def test_a_missing_system_library_is_mended_by_its_package(monkeypatch, apt_fix):
    error = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"
    monkeypatch.setattr(machine, "_python", lambda *_: done(1, err=error))
    assert machine.check_package("numpy", "numpy", "generating").fix == apt_fix


def test_a_renderer_that_crashes_is_reported_and_does_not_crash_the_doctor(monkeypatch, apt_fix):
    monkeypatch.setattr(machine, "gpu_names", list)
    monkeypatch.setattr(machine, "_RENDER_PROBE", "import os; os.kill(os.getpid(), 11)")
    assert machine.check_renderer() == Check(
        "renderer", False, "cpu: the process was ended by signal 11", apt_fix, "rendering"
    )


def test_without_a_vulkan_device_maniskill_cannot_generate(monkeypatch, apt_fix):
    pytest.importorskip("sapien")
    monkeypatch.setenv("VK_DRIVER_FILES", "/dev/null")
    monkeypatch.setenv("VK_ICD_FILENAMES", "/dev/null")
    check = machine.check_vulkan()
    assert (check.ok, check.fix, check.needed_for) == (False, apt_fix, "generating")
    assert "failed to find a rendering device" in check.found


@pytest.mark.parametrize(
    ("version", "ok", "found"),
    [((3, 9), False, ""), ((3, 10), True, ""), ((3, 12), True, ""), ((3, 13), True, "without ManiSkill: ")],
)
def test_each_python_says_what_it_supports(monkeypatch, version, ok, found):
    monkeypatch.setattr(machine.sys, "version_info", (*version, 1))
    check = machine.check_python()
    assert check.ok is ok
    assert found in check.found


def test_python_3_13_is_supported_without_maniskill(monkeypatch):
    monkeypatch.setattr(machine.sys, "version_info", (3, 13, 1))
    monkeypatch.setattr(machine.importlib.metadata, "version", _not_installed)
    check = machine.check_package("mani_skill", "mani_skill.envs", machine.maniskill_purpose())
    assert check.needed_for == "ManiSkill"
    assert check.fix == (
        "Install Python 3.12 for ManiSkill: mani_skill pins mplib, which has no wheel for Python 3.13 and "
        "later."
    )
    monkeypatch.setattr(suites.importlib.util, "find_spec", lambda _: None)
    assert "with Python 3.12: mani_skill pins mplib" in suites.ManiSkillSuite().requirement


def _not_installed(name):
    raise machine.importlib.metadata.PackageNotFoundError(name)


def test_a_gpu_that_does_not_render_leaves_the_cpu(monkeypatch):
    monkeypatch.setattr(machine, "gpu_names", lambda: ["A GPU"])
    predictions = {"cuda": done(1, err="no device"), "cpu": done(0, out="GPU: llvmpipe (LLVM)\n")}
    monkeypatch.setattr(machine, "_python", lambda *arguments: predictions[arguments[-1]])
    check = machine.check_renderer()
    assert check.ok
    assert check.found == "cpu: llvmpipe (LLVM)"


def test_a_missing_browser_names_the_part(monkeypatch, apt_fix):
    monkeypatch.setattr(
        machine.shutil, "which", lambda name: "/usr/bin/chromium" if name == "chromium" else None
    )
    assert machine.check_browser() == Check("chromium", False, "no driver", apt_fix, "browser tests")


def test_the_cache_folder_is_not_made_by_looking(tmp_path, monkeypatch):
    monkeypatch.setenv("FAILSAFE_CACHE", str(tmp_path / "a/b"))
    assert machine.cache_folder() == tmp_path / "a/b"
    assert machine.check_cache(machine.cache_folder()).ok
    assert not (tmp_path / "a").exists()


def test_a_file_in_the_place_of_the_cache_folder_is_found_out(tmp_path):
    (tmp_path / "taken").write_text("")
    check = machine.check_cache(tmp_path / "taken/failsafe")
    assert not check.ok
    assert check.fix.startswith("export FAILSAFE_CACHE=")


def test_a_full_disk_says_how_much_to_free(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": machine.GIB // 2})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    check = machine.check_disk(tmp_path)
    assert not check.ok
    assert check.fix.startswith("Free 1.5 GiB there")


@pytest.mark.parametrize(("kilobytes", "ok"), [(1_000_000, False), (4_000_000, True)])
def test_memory_is_what_is_available(tmp_path, kilobytes, ok):
    (tmp_path / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:  {kilobytes} kB\n")
    assert machine.check_memory(tmp_path / "meminfo").ok is ok


@pytest.mark.slow
@pytest.mark.maniskill
def test_every_check_runs_on_this_machine():
    pytest.importorskip("sapien")
    checks = {check.name: check for check in machine.run_checks()}
    assert len(checks) == 18
    assert checks["mani_skill"].ok, checks["mani_skill"]
    assert all(check.ok or check.fix for check in checks.values())
