"""A job whose items do what they are called, and leave a mark."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from failsafe.errors import UnknownNameError
from failsafe.execution.contract import SILENT, Reporter


@dataclass(frozen=True)
class Marks:
    """Leaves a file for each item that was done, and one for each that was given up."""

    folder: Path

    @property
    def folders(self) -> tuple[Path, ...]:
        return (self.folder,)

    def __setstate__(self, state: dict[str, Path]) -> None:
        if (state["folder"] / "stillborn").exists():
            os._exit(1)
        self.__dict__.update(state)

    def run(self, item: str, reporter: Reporter = SILENT) -> None:
        if item == "in parts":
            self._in_parts(reporter)
            return
        tries = len(list(self.folder.glob(f"{item}.try*")))
        (self.folder / f"{item}.try{tries}").touch()
        if item in ("dies", "dies in parts") or (item == "dies once" and tries == 0):
            os._exit(1)
        if item == "unknown":
            raise UnknownNameError("task", "Pick", ["Push"])
        if item == "bug":
            raise ZeroDivisionError("a bug")
        (self.folder / f"{item}.done").touch()

    def _in_parts(self, reporter: Reporter) -> None:
        for part in ("one", "two", "three"):
            if not (self.folder / f"{part}.done").exists():
                reporter.begin(part)
                if part == "two" and not (self.folder / f"in parts-{part}.given-up").exists():
                    os._exit(1)
                (self.folder / f"{part}.done").touch()
                reporter.report(f"{part} is done")

    def give_up(self, item: str, part: str = "") -> bool:
        if part:
            (self.folder / f"{item}-{part}.given-up").touch()
            return True
        before = len(self.marks("given-up"))
        (self.folder / f"{item}{before if item == 'dies in parts' else ''}.given-up").touch()
        return item == "dies in parts" and before < 2

    def marks(self, kind: str) -> list[str]:
        return sorted(file.stem for file in self.folder.glob(f"*.{kind}"))
