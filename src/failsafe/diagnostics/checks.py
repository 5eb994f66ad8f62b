"""Checks of this machine: packages, renderer, browser, disk, memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from failsafe.diagnostics import debian

Purpose = Literal[
    "generating",
    "ManiSkill",
    "rendering",
    "models",
    "FailSafe-VLM",
    "several machines",
    "browser tests",
    "speed",
]

GIB = 2**30
MINIMUM_DISK = 2 * GIB  # 20,000 episodes at 50 kB, and the decimated meshes
MINIMUM_MEMORY = 2 * GIB  # one worker's peak and the rest of the system

NO_MANISKILL = "mani_skill pins mplib, which has no wheel for Python 3.13 and later"
"""Why ManiSkill cannot be installed there. Everything else of FailSafe can."""
_MATERIAL_PROBE = "import sapien; sapien.render.RenderMaterial()"
"""What ManiSkill does for every body that it builds, with `render_backend="none"` as well."""
_RENDER_PROBE = """
import sys
import sapien
scene = sapien.Scene([sapien.physx.PhysxCpuSystem(), sapien.render.RenderSystem(sapien.Device(sys.argv[1]))])
scene.set_ambient_light([1, 1, 1])
builder = scene.create_actor_builder()
builder.add_box_visual(half_size=[0.1, 0.1, 0.1])
builder.build_kinematic(name="box")
camera = scene.add_camera("camera", 32, 32, 1.0, 0.01, 10)
camera.entity.set_pose(sapien.Pose([-0.5, 0, 0]))
scene.update_render()
camera.take_picture()
image = camera.get_picture("Color")
assert image[16, 16, :3].max() > 0.1, "the image is black"
print(sapien.render.get_device_summary())
"""


@dataclass(frozen=True)
class Check:
    """What was found out about one thing.

    Attributes:
        name: The thing.
        ok: Whether it is as `needed_for` needs it; what only changes the speed is always in order.
        found: What there is, in words.
        fix: The command that mends it, or the sentence where no command can; empty if `ok`.
        needed_for: What does not work without it.
    """

    name: str
    ok: bool
    found: str
    fix: str = ""
    needed_for: Purpose = "generating"


def run_checks() -> list[Check]:
    """Make every check, side by side, and return them in a fixed order."""
    checks: Sequence[Callable[[], Check]] = (
        check_python,
        lambda: check_package("numpy", "numpy", "generating"),
        lambda: check_package("sapien", "sapien", maniskill_purpose()),
        lambda: check_package("mani_skill", "mani_skill.envs", maniskill_purpose()),
        lambda: check_package("torch", "torch", maniskill_purpose()),
        check_vulkan,
        lambda: check_package("fast_simplification", "fast_simplification", "rendering"),
        lambda: check_package("safetensors", "safetensors", "models"),
        lambda: check_package("transformers", "transformers", "FailSafe-VLM"),
        lambda: check_package("trl", "trl", "FailSafe-VLM"),
        lambda: check_package("ray", "ray", "several machines"),
        check_renderer,
        check_gpu,
        check_browser,
        lambda: check_cache(cache_folder()),
        lambda: check_disk(Path.cwd()),
        check_cores,
        check_memory,
    )
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda check: check(), checks))


def check_python() -> Check:
    """Check that this Python is one that FailSafe runs on, and say whether ManiSkill does, too."""
    found = f"{platform.python_version()} ({sys.executable})"
    if has_maniskill_wheels():
        return Check("Python", True, found)
    if sys.version_info[:2] >= (3, 13):
        return Check("Python", True, f"{found}; without ManiSkill: {NO_MANISKILL}")
    return Check("Python", False, found, "Install Python 3.11, then run: make setup")


def has_maniskill_wheels() -> bool:
    """Return whether ManiSkill and its dependencies have wheels for this Python."""
    return (3, 10) <= sys.version_info[:2] <= (3, 12)


def maniskill_purpose() -> Purpose:
    """Return what the packages of ManiSkill are needed for: only for itself where it cannot be installed."""
    return "ManiSkill" if sys.version_info[:2] >= (3, 13) else "generating"


def check_package(distribution: str, module: str, needed_for: Purpose) -> Check:
    """Check that a package imports, in a process of its own, and has the version that this project pins.

    Args:
        distribution: The name it is installed by.
        module: What is imported.
        needed_for: What does not work without it.
    """
    pin = required_version(distribution)
    install = f"{sys.executable} -m pip install {shlex.quote(distribution + pin)}"
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        if distribution == "mani_skill" and sys.version_info[:2] >= (3, 13):
            install = f"Install Python 3.12 for ManiSkill: {NO_MANISKILL}."
        return Check(distribution, False, "not installed", install, needed_for)
    if pin.startswith("==") and version.split("+")[0] != pin[2:]:
        return Check(distribution, False, f"{version}, but {pin[2:]} is needed", install, needed_for)
    done = _python("-c", f"import {module}")
    if done.returncode != 0:
        missing = [line for line in done.stderr.splitlines() if "cannot open shared object file" in line]
        fix = _system_packages_fix(renderer=False, browser=False) if missing else ""
        found = f"{version}, but it does not import: {_last_words(done)}"
        return Check(distribution, False, found, fix or f"{install} --force-reinstall", needed_for)
    return Check(distribution, True, version, "", needed_for)


def check_vulkan() -> Check:
    """Check that there is a Vulkan device: SAPIEN needs one to build a scene, even one without images."""
    purpose = maniskill_purpose()
    done = _python("-c", _MATERIAL_PROBE)
    if done.returncode == 0:
        return Check("Vulkan device", True, "found", "", purpose)
    problem = _last_words(done)
    if "No module named 'sapien'" in problem:
        fix = "Install sapien first (see above)."
    else:
        fix = _system_packages_fix(renderer=True, browser=False) or "Install Mesa's Vulkan drivers."
    return Check("Vulkan device", False, problem, fix, purpose)


def check_renderer() -> Check:
    """Check that SAPIEN renders a small image, on the GPU where there is one, else on the CPU."""
    devices = ("cuda", "cpu") if gpu_names() else ("cpu",)
    problem = ""
    for device in devices:
        done = _python("-c", _RENDER_PROBE, device)
        if done.returncode == 0:
            summary = re.search(r"GPU:\s*(.+)", done.stdout)
            return Check("renderer", True, f"{device}: {summary[1] if summary else '?'}", "", "rendering")
        problem = f"{device}: {_last_words(done)}"
    if "No module named 'sapien'" in problem:
        return Check(
            "renderer", False, "SAPIEN is not installed", "Install sapien first (see above).", "rendering"
        )
    fix = _system_packages_fix(renderer=True, browser=False)
    if not fix and len(devices) > 1:
        fix = "Give the container the driver's graphics part: NVIDIA_DRIVER_CAPABILITIES=all"
    return Check("renderer", False, problem, fix or "Reinstall Mesa's Vulkan drivers.", "rendering")


def check_gpu() -> Check:
    """Name the GPUs; nothing here needs one."""
    return Check("GPU", True, ", ".join(gpu_names()) or "none: the CPU does all", "", "speed")


def check_browser() -> Check:
    """Check that Chromium and its driver are there, which the tests of the gallery drive."""
    names = {"browser": ("chromium", "chromium-browser", "google-chrome"), "driver": ("chromedriver",)}
    paths = {part: next(filter(None, map(shutil.which, known)), None) for part, known in names.items()}
    missing = [part for part, path in paths.items() if path is None]
    if not missing:
        return Check("chromium", True, ", ".join(str(path) for path in paths.values()), "", "browser tests")
    fix = _system_packages_fix(renderer=False, browser=True) or "Install Chromium and chromedriver."
    return Check("chromium", False, f"no {' and no '.join(missing)}", fix, "browser tests")


def check_cache(folder: Path) -> Check:
    """Check that the decimated meshes can be kept, without making the folder."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Check("cache folder", True, str(folder), "", "rendering")
    fix = "export FAILSAFE_CACHE=/tmp/failsafe-cache"
    return Check("cache folder", False, f"{folder} cannot be written ({nearest})", fix, "rendering")


def check_disk(folder: Path) -> Check:
    """Check that a dataset of some size fits on the disk that holds `folder`."""
    free = shutil.disk_usage(folder).free
    ok = free >= MINIMUM_DISK
    fix = "" if ok else f"Free {_gib(MINIMUM_DISK - free)} there, or choose a folder on another disk."
    return Check("disk", ok, f"{_gib(free)} free at {folder}", fix)


def check_cores() -> Check:
    """Say how many cores this process may use, which is the useful number of workers."""
    # A container or a batch system may allow fewer than the machine has.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("CPU cores", True, str(cores), "", "speed")


def check_memory(meminfo: Path = Path("/proc/meminfo")) -> Check:
    """Check that one worker fits into the memory that is free.

    Args:
        meminfo: The kernel's table of memory, in kB.
    """
    try:
        available = re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text(encoding="utf-8"))
    except OSError:
        available = None
    if available is None:
        return Check("memory", True, "unknown on this system")
    free = int(available[1]) * 1024
    ok = free >= MINIMUM_MEMORY
    fix = "" if ok else "Close other programs, or generate with one worker."
    return Check("memory", ok, f"{_gib(free)} available", fix)


def cache_folder() -> Path:
    """Return where decimated meshes are kept: `$FAILSAFE_CACHE`, else `~/.cache/failsafe`."""
    return Path(os.environ.get("FAILSAFE_CACHE") or "~/.cache/failsafe").expanduser().absolute()


def required_version(distribution: str) -> str:
    """Return this project's condition on a distribution's version, such as `==3.0.1`, or nothing."""
    try:
        requirements = importlib.metadata.requires("failsafe-vla") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    pattern = re.compile(rf"{re.escape(distribution).replace('_', '[-_.]')}\s*([=<>~!][^;]*)", re.IGNORECASE)
    return next((match[1].strip() for text in requirements if (match := pattern.match(text))), "")


def gpu_names() -> list[str]:
    """Return the names of the NVIDIA GPUs that answer, empty where there are none."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def _system_packages_fix(*, renderer: bool, browser: bool) -> str:
    made = debian.plan(renderer=renderer, browser=browser)
    return debian.as_one_line(made.lines) if made.lines else " ".join(made.remarks)


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", "no answer within 120 s")


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    if done.returncode < 0:
        return f"the process was ended by signal {-done.returncode}"
    return lines[-1].strip() if lines else f"exit code {done.returncode}"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
