"""The dataset on disk: one file per case, tables for queries, and a manifest that makes it again.

```
data/
  manifest.json               the configuration and where it comes from
  nominal/TASK/SEED.npz       the nominal rollout: record and trace
  cases/TASK/CASE.npz         one case: record, perturbed rollout, recovered rollouts
  exploration/TASK/SEED.npz   a random-exploration rollout, where `failsafe samples --explore` needed one
  tables/*.parquet            what is queried: cases, labels, attempts; made from the files above
  README.md                   the dataset card
```
TASK is the task's name; for MODULE:FUNCTION it is its last part with a digest, see `records.names`.
A case is done if its file exists: files are written whole, and nothing else records the progress of a run.
Recovered rollouts are stored from the step at which they leave the failing rollout.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from failsafe.datasets.files import LOCK, is_partial, write_atomically
from failsafe.errors import FailSafeError, RecordError, StoreError, UserError
from failsafe.records import codec
from failsafe.records.case import FAILING, NOMINAL, FailureCase, NominalRecord
from failsafe.records.files import exists, read_bytes
from failsafe.records.names import task_folder
from failsafe.records.trace import Trace, pack, trace_from_arrays, trace_to_arrays, unpack

R = TypeVar("R")


class Dataset:
    """A dataset folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_nominal(self, nominal: NominalRecord, trace: Trace) -> None:
        """Store the nominal rollout of a task and seed.

        Args:
            nominal: Record of the rollout.
            trace: Its commands and states.
        """
        arrays = {"record": _text(codec.dumps(nominal)), **trace_to_arrays(trace)}
        write_atomically(self._nominal_path(nominal.task, nominal.seed), pack(arrays), self.path)

    def write_case(self, case: FailureCase, traces: dict[str, Trace]) -> None:
        """Store a case.

        Args:
            case: Its record.
            traces: The rollout `FAILING`, and one whole recovered rollout for each name in `Label.recovery`.
        """
        arrays = {"record": _text(codec.dumps(case))}
        starts = {label.recovery: label.step for label in case.labels}
        for name, trace in traces.items():
            arrays |= trace_to_arrays(_suffix(trace, starts.get(name, 0)), prefix=f"{name}.")
        write_atomically(self.case_path(case.task, case.case_id), pack(arrays), self.path)

    def write_exploration(self, task: str, seed: int, trace: Trace) -> None:
        """Store the random-exploration rollout of a task and seed.

        Args:
            task: Name of the task.
            seed: Seed of the initial state.
            trace: Commands and states of the rollout.
        """
        write_atomically(self._exploration_path(task, seed), pack(trace_to_arrays(trace)), self.path)

    def has_exploration(self, task: str, seed: int) -> bool:
        """Whether the random-exploration rollout of a task and seed is stored.

        Args:
            task: Name of the task.
            seed: Seed of the initial state.
        """
        return exists(self._exploration_path(task, seed))

    def exploration(self, task: str, seed: int) -> Trace:
        """Return the random-exploration rollout of a task and seed; errors as for `nominal`.

        Args:
            task: Name of the task.
            seed: Seed of the initial state.
        """
        path = self._exploration_path(task, seed)
        arrays = self._read(path)
        with _named(path):
            return trace_from_arrays(arrays)

    def has_case(self, task: str, case_id: str) -> bool:
        """Whether a case is stored.

        Args:
            task: Name of the task.
            case_id: Name of the case.
        """
        return exists(self.case_path(task, case_id))

    def has_nominal(self, task: str, seed: int) -> bool:
        """Whether the nominal rollout of a task and seed is stored.

        Args:
            task: Name of the task.
            seed: Seed of the initial state.
        """
        return exists(self._nominal_path(task, seed))

    def nominal(self, task: str, seed: int) -> tuple[NominalRecord, Trace]:
        """Return record and trace of the nominal rollout of a task and seed.

        Args:
            task: Name of the task.
            seed: Seed of the initial state.

        Raises:
            UserError: If the dataset has none.
            RecordError: If its file is damaged or of another version.
        """
        path = self._nominal_path(task, seed)
        return self._nominal(path, self._read(path))

    def case(self, task: str, case_id: str) -> FailureCase:
        """Return the record of a case; errors as for `nominal`.

        Args:
            task: Name of the task.
            case_id: Name of the case.
        """
        path = self.case_path(task, case_id)
        return self._case(path, self._read(path))[0]

    def traces(self, task: str, case_id: str) -> dict[str, Trace]:
        """Return the rollouts of a case by name, each from its first step; errors as for `nominal`.

        Args:
            task: Name of the task.
            case_id: Name of the case.
        """
        path = self.case_path(task, case_id)
        return self._case(path, self._read(path))[1]

    def rollouts(self, case: FailureCase) -> dict[str, Trace]:
        """Return all rollouts of a case by name, the nominal one first; errors as for `nominal`."""
        return {NOMINAL: self.nominal(case.task, case.seed)[1], **self.traces(case.task, case.case_id)}

    def case_path(self, task: str, case_id: str) -> Path:
        """Return the file of a case.

        Args:
            task: Name of the task.
            case_id: Name of the case.
        """
        return task_folder(self.path / "cases", task) / f"{case_id}.npz"

    def case_files(self) -> list[Path]:
        """Return the files of all cases, in the order of task and name."""
        return sorted((self.path / "cases").glob("*/*.npz"))

    def nominal_files(self) -> list[Path]:
        """Return the files of all nominal rollouts, in the order of task and seed."""
        return sorted((self.path / "nominal").glob("*/*.npz"))

    def cases(self, skip_damaged: bool = False) -> Iterator[FailureCase]:
        """Yield the records of all cases, in the order of task and name.

        Args:
            skip_damaged: Leave out damaged files, and cases whose nominal rollout is damaged.

        Raises:
            RecordError: On a damaged file, unless they are to be skipped.
        """
        damaged: dict[tuple[str, int], bool] = {}
        for case in self._records(self._case, self.case_files(), skip_damaged):
            key = case.task, case.seed
            if skip_damaged and key not in damaged:
                path = self._nominal_path(*key)
                damaged[key] = path.exists() and not [*self._records(self._nominal, [path], skip_damaged)]
            if not damaged.get(key):
                yield case

    def nominals(self, skip_damaged: bool = False) -> Iterator[NominalRecord]:
        """Yield the records of all nominal rollouts, in the order of task and seed; errors as for `cases`."""
        yield from self._records(self._nominal, self.nominal_files(), skip_damaged)

    def find(self, case_id: str) -> FailureCase:
        """Return a case by its name.

        Raises:
            UserError: If there is none, or the folder is no dataset.
        """
        self.require()
        for path in self.case_files():
            if path.stem == case_id:
                return self._case(path, self._read(path))[0]
        raise UserError(
            f"no episode '{case_id}' in {self.path}; `failsafe gallery` and tables/cases.parquet name them"
        )

    def require(self) -> None:
        """Check that the folder is a dataset.

        Raises:
            UserError: If it has no manifest.
        """
        if not (self.path / "manifest.json").exists():
            raise UserError(
                f"expected a dataset made by `failsafe generate`, got {self.path}, which has no manifest.json"
            )

    def check_files(self) -> None:
        """Check that the folder holds nothing that could be overwritten or taken for a case.

        Raises:
            StoreError: Naming the files that are not this program's.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise StoreError(f"expected a folder, got the file {self.path}; choose another folder")
        foreign = sorted(p.name for p in self.path.iterdir() if p.name != LOCK and not is_partial(p))[:5]
        if foreign and not (self.path / "manifest.json").exists():
            raise StoreError(
                f"expected an empty folder or a dataset, got {self.path} with {', '.join(foreign)}; "
                "choose another folder"
            )
        for folder in ("cases", "nominal"):
            foreign = sorted(
                str(p.relative_to(self.path))
                for p in (self.path / folder).rglob("*")
                if p.is_file() and p.suffix != ".npz" and not is_partial(p)
            )
            if foreign:
                raise StoreError(
                    f"these files in {self.path} are no part of a dataset: {', '.join(foreign[:5])}; "
                    "move them away"
                )

    def _exploration_path(self, task: str, seed: int) -> Path:
        return task_folder(self.path / "exploration", task) / f"{seed:08d}.npz"

    def _nominal_path(self, task: str, seed: int) -> Path:
        return task_folder(self.path / "nominal", task) / f"{seed:08d}.npz"

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        return unpack(read_bytes(path, within=self.path), str(path))

    def _case(self, path: Path, arrays: dict[str, np.ndarray]) -> tuple[FailureCase, dict[str, Trace]]:
        case = codec.loads(FailureCase, _untext(arrays, path), str(path))
        self._check_place(path, self.case_path(case.task, case.case_id))
        with _named(path):
            return case, _traces(case, arrays)

    def _nominal(self, path: Path, arrays: dict[str, np.ndarray]) -> tuple[NominalRecord, Trace]:
        nominal = codec.loads(NominalRecord, _untext(arrays, path), str(path))
        self._check_place(path, self._nominal_path(nominal.task, nominal.seed))
        with _named(path):
            return nominal, trace_from_arrays(arrays)

    def _check_place(self, path: Path, expected: Path) -> None:
        """Check that a file is where its record belongs: elsewhere another record would be read for it."""
        if path != expected:
            raise RecordError(f"{path}: expected the record of this file, got one that belongs to {expected}")

    def _records(
        self,
        decode: Callable[[Path, dict[str, np.ndarray]], tuple[R, object]],
        files: list[Path],
        skip_damaged: bool,
    ) -> Iterator[R]:
        for path in files:
            try:
                yield decode(path, self._read(path))[0]
            except FailSafeError:
                if not skip_damaged:
                    raise


def open_dataset(path: str | Path) -> Dataset:
    """Open a dataset that `failsafe generate` or `failsafe.generate` made.

    Args:
        path: Folder of the dataset.

    Raises:
        UserError: If the folder has no manifest.
    """
    dataset = Dataset(Path(path))
    dataset.require()
    return dataset


@contextlib.contextmanager
def _named(path: Path) -> Generator[None, None, None]:
    """Name the file in the errors of its content."""
    try:
        yield
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error


def _traces(case: FailureCase, arrays: dict[str, np.ndarray]) -> dict[str, Trace]:
    """Return the rollouts in the file of a case by name, each from its first step."""
    if f"{FAILING}.commands" not in arrays:
        return {}
    failing = trace_from_arrays(arrays, f"{FAILING}.")
    traces = {FAILING: failing}
    for label in case.labels:
        if label.step > len(failing):
            raise RecordError(f"expected labels up to step {len(failing)}, got one at step {label.step}")
        if label.recovery:
            suffix = trace_from_arrays(arrays, f"{label.recovery}.")
            traces[label.recovery] = _join(failing, suffix, label.step)
    return traces


def _text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _untext(arrays: dict[str, np.ndarray], path: Path) -> str:
    if "record" not in arrays:
        raise RecordError(f"{path}: expected a record, got an archive without one")
    try:
        return arrays["record"].tobytes().decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: expected a record in UTF-8, got other bytes") from error


def _suffix(trace: Trace, start: int) -> Trace:
    arrays = {
        f.name: getattr(trace, f.name)[start:] for f in dataclasses.fields(trace) if f.name != "disturbances"
    }
    later = tuple((step - start, d) for step, d in trace.disturbances if step >= start)
    return Trace(**arrays, disturbances=later)


def _join(head: Trace, tail: Trace, at: int) -> Trace:
    for name in ("commands", "objects", "states"):
        if getattr(head, name).shape[1:] != getattr(tail, name).shape[1:]:
            raise RecordError(f"expected equal sizes of '{name}' in all rollouts of a case, got others")
    arrays = {
        f.name: np.concatenate([getattr(head, f.name)[:at], getattr(tail, f.name)])
        for f in dataclasses.fields(head)
        if f.name != "disturbances"
    }
    early = tuple((step, d) for step, d in head.disturbances if step < at)
    late = tuple((step + at, d) for step, d in tail.disturbances)
    return Trace(**arrays, disturbances=early + late)
