"""What Debian and Ubuntu must install for rendering and the browser tests, as shell lines.

`failsafe doctor` prints these lines and `scripts/setup.sh` runs them. The set-up runs this module as a file,
before any package is installed, so it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MESA_MINIMUM = (
    "24.3"  # the first whose software driver has VK_KHR_external_semaphore_fd, which SAPIEN requires
)
BACKPORTS_FILE = "/etc/apt/sources.list.d/failsafe-backports.list"
GRAPHICS_LIBRARIES = (
    "libgl1",
    "libglib2.0-0",
    "libvulkan1",
    "libxcb1",
)  # ManiSkill's import of OpenCV needs the rest
SOFTWARE_RENDERER = "mesa-vulkan-drivers"
BROWSER = ("chromium", "chromium-driver")

_NVIDIA_ICDS = ("/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d")


@dataclass(frozen=True)
class AptSource:
    """Where a machine gets its packages from, as its own apt configuration says.

    Attributes:
        uri: Address of the mirror.
        signed_by: Path of the key that signs it, None for the default keys.
    """

    uri: str
    signed_by: str | None = None

    def line(self, suite: str) -> str:
        """Return the one-line source entry of `suite` on this mirror."""
        options = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {options}{self.uri} {suite} main"


@dataclass(frozen=True)
class AptPlan:
    """Shell lines that root runs in this order, and remarks on what no line can mend.

    Attributes:
        lines: Shell lines for root, in order.
        remarks: Problems that no shell line solves.
    """

    lines: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def os_release(root: Path = Path("/")) -> dict[str, str]:
    """Return the fields of `/etc/os-release`, empty where there is none."""
    try:
        text = (root / "etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def apt_sources(root: Path = Path("/")) -> list[tuple[str, AptSource]]:
    """Return (suite, source) of every enabled binary source, read from both of apt's formats."""
    folder = root / "etc/apt/sources.list.d"
    one_line = [root / "etc/apt/sources.list", *sorted(folder.glob("*.list"))]
    found = [entry for path in one_line for entry in _one_line_entries(_read(path))]
    return found + [
        entry for path in sorted(folder.glob("*.sources")) for entry in _stanza_entries(_read(path))
    ]


def backports_lines(root: Path = Path("/")) -> list[str] | None:
    """Return the lines that make Debian 12's backports known to apt.

    Empty where they are known already, None where the machine's sources name no mirror of Debian 12.
    """
    sources = apt_sources(root)
    if any(suite == "bookworm-backports" for suite, _ in sources):
        return []
    mirror = next((source for suite, source in sources if suite == "bookworm"), None)
    if mirror is None:
        return None
    return [f"echo '{mirror.line('bookworm-backports')}' > {BACKPORTS_FILE}"]


def has_nvidia_vulkan() -> bool:
    """Return whether a GPU answers and its driver is known to Vulkan: then no software renderer is needed."""
    if not any((Path(folder) / "nvidia_icd.json").is_file() for folder in _NVIDIA_ICDS):
        return False
    return shutil.which("nvidia-smi") is not None and _run("nvidia-smi", "-L").startswith("GPU")


def plan(*, renderer: bool, browser: bool, root: Path = Path("/")) -> AptPlan:
    """Return what root must run so that this machine can import ManiSkill, and the rest as asked.

    Nothing is run or changed here; a machine that has everything gets an empty plan.

    Args:
        renderer: Whether Mesa's software renderer is wanted.
        browser: Whether Chromium and its driver are wanted.
        root: Where the file system begins; another folder in tests.
    """
    if shutil.which("apt-get") is None:
        return AptPlan(
            remarks=(f"No apt-get here: install Mesa's lavapipe >= {MESA_MINIMUM} and libvulkan by hand.",)
        )
    release = os_release(root)
    before: list[str] = []
    installs: list[str] = []
    remarks: list[str] = []
    # One line each, so that a package that cannot be had does not keep the others away.
    if missing := [name for name in GRAPHICS_LIBRARIES if not _installed(name)]:
        installs.append(_install(*missing))
    if renderer and not _mesa_is_recent(have := _installed(SOFTWARE_RENDERER)):
        backports = backports_lines(root) if release.get("VERSION_CODENAME") == "bookworm" else None
        if backports is not None:
            before += backports
            installs.append(_install("-t", "bookworm-backports", SOFTWARE_RENDERER))
        elif have and not _mesa_is_recent(_candidate(SOFTWARE_RENDERER)):
            remarks.append(
                f"Mesa {have} is too old to render (it takes {MESA_MINIMUM}), and this distribution has no "
                "newer one. Generating needs no renderer; render on a newer distribution or with a GPU."
            )
        else:
            installs.append(_install(SOFTWARE_RENDERER))
    if browser and release.get("ID") == "ubuntu":
        if shutil.which("chromedriver") is None:
            remarks.append(
                "Ubuntu has Chromium as a snap only: it is left out, and the browser tests are skipped."
            )
    elif browser and (missing := [name for name in BROWSER if not _installed(name)]):
        installs.append(_install(*missing))
    lines = (*before, "apt-get update -q", *installs) if installs else ()
    return AptPlan(lines, tuple(remarks))


def as_one_line(lines: Sequence[str]) -> str:
    """Join shell lines that root must run into one that any user can paste."""
    joined = " && ".join(lines)
    return joined if os.geteuid() == 0 else f"sudo sh -c {shlex.quote(joined)}"


def _install(*arguments: str) -> str:
    command = "DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q"
    return " ".join((command, "--no-install-recommends", *arguments))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _one_line_entries(text: str) -> list[tuple[str, AptSource]]:
    entries: list[tuple[str, AptSource]] = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)", line)
        if match:
            options, uri, suite = match.groups()
            key = re.search(r"signed-by=(\S+)", options or "")
            entries.append((suite, AptSource(uri, key[1] if key else None)))
    return entries


def _stanza_entries(text: str) -> list[tuple[str, AptSource]]:
    entries: list[tuple[str, AptSource]] = []
    text = re.sub(r"(?m)^#.*\n?", "", text)  # a comment line inside a stanza does not end it
    for stanza in re.split(r"\n\s*\n", text):
        pairs = re.findall(r"(?m)^([\w-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", stanza)
        fields = {key.lower(): value.split() for key, value in pairs}
        if "deb" not in fields.get("types", []) or fields.get("enabled") == ["no"]:
            continue
        key = fields.get("signed-by", [])
        signed_by = (
            key[0] if len(key) == 1 and key[0].startswith("/") else None
        )  # else: the key itself, many lines
        entries += [
            (s, AptSource(uri, signed_by)) for s in fields.get("suites", []) for uri in fields.get("uris", [])
        ]
    return entries


def _installed(package: str) -> str:
    """Return the installed version of a package, or an empty string."""
    # The t64 names are those of the libraries after Debian's and Ubuntu's change to 64-bit times.
    for name in (package, f"{package}t64"):
        status, _, version = _run("dpkg-query", "-W", "-f=${db:Status-Status} ${Version}\n", name).partition(
            " "
        )
        if status == "installed":
            return version.split("\n", 1)[0].strip()
    return ""


def _candidate(package: str) -> str:
    match = re.search(r"Candidate:\s*(\S+)", _run("apt-cache", "policy", package))
    return match[1] if match and match[1] != "(none)" else ""


def _mesa_is_recent(version: str) -> bool:
    numbers = re.match(r"(?:\d+:)?(\d+)\.(\d+)", version)
    minimum = tuple(int(part) for part in MESA_MINIMUM.split("."))
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= minimum


def _run(*command: str) -> str:
    """Return what a command prints, empty where it does not exist or fails to start."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def main() -> None:
    """Print the plan for the set-up script: `run LINE` in order, `paste ALL-LINES`, `say REMARK`."""
    made = plan(renderer=not has_nvidia_vulkan(), browser=True)
    for line in made.lines:
        print("run", line)
    if made.lines:
        print("paste", as_one_line(made.lines))
    for remark in made.remarks:
        print("say", remark)


if __name__ == "__main__":
    main()
