"""A job whose items do what they are called, and leave a mark."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from failsafe.errors import UnknownNameError


@dataclass(frozen=True)
class Marks:
    """Leaves a file for each item that was done, and one for each that was given up."""

    folder: Path

    def run(self, item: str) -> None:
        tries = len(list(self.folder.glob(f"{item}.try*")))
        (self.folder / f"{item}.try{tries}").touch()
        if item == "dies" or (item == "dies once" and tries == 0):
            os._exit(1)
        if item == "unknown":
            raise UnknownNameError("task", "Pick", ["Push"])
        if item == "bug":
            raise ZeroDivisionError("a bug")
        (self.folder / f"{item}.done").touch()

    def give_up(self, item: str) -> None:
        (self.folder / f"{item}.given-up").touch()

    def marks(self, kind: str) -> list[str]:
        return sorted(file.stem for file in self.folder.glob(f"*.{kind}"))
