"""The results of a study on disk.

```
results/
  manifest.json                                       what is evaluated, and how
  episodes/TASK/SCENARIO/POLICY/CONDITION/SEED.json   one record each; a resumed run adds the missing ones
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from failsafe.datasets.files import file_name, is_leftover, write_atomically
from failsafe.errors import StoreError
from failsafe.evaluation.code import differences
from failsafe.evaluation.config import StudyConfig, rename_assist_seconds
from failsafe.evaluation.paired import Summary, summarise
from failsafe.records import codec
from failsafe.records.episode import Episode, EpisodeKey
from failsafe.records.files import exists, read_bytes
from failsafe.records.provenance import Provenance, collect_provenance, command_line
from failsafe.records.seeds import SeedRole, role_of


@dataclass(frozen=True)
class Frozen:
    """The protocol that a study follows, see `failsafe.evaluation.protocol`.

    Attributes:
        protocol: SHA-256 of the protocol's file.
        end_point: The primary end point, in words.
        budget_hours: Hours of computation that the run may take.
    """

    protocol: str
    end_point: str
    budget_hours: float


@dataclass(frozen=True)
class StudyManifest:
    """Configuration and origin of a folder of results.

    Attributes:
        config: Configuration of the study.
        command: Command that started it.
        provenance: Commit and versions of the run that started it.
        continued: The same of each run that continued it with another state of FailSafe's own source.
        seed_role: Role of the seeds (`failsafe.records.seeds`); None where they had none yet.
        frozen: The protocol that it follows; None without one.
    """

    # Earlier formats: 1 (scores were means over queries), 2 (other names of the monitor's settings), 3 (the
    # condition "monitor" went on as the expert). Their episodes were made with other settings, so they cannot
    # be resumed.
    FORMAT: ClassVar[int] = 5
    MIGRATIONS: ClassVar[Mapping[str, codec.Migration]] = {"StudyManifest/4": rename_assist_seconds}

    config: StudyConfig
    command: str
    provenance: Provenance
    continued: tuple[Provenance, ...] = ()
    seed_role: SeedRole | None = None
    frozen: Frozen | None = None


class Results:
    """A folder of results, for reading and writing.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def manifest(self) -> StudyManifest:
        """The manifest.

        Raises:
            UserError: If the folder has none.
            RecordError: If it is damaged or of another version.
        """
        absent = f"expected results made by `failsafe evaluate`, got {self.path}"
        return codec.read(StudyManifest, self.path / "manifest.json", absent, within=self.path)

    def file(self, key: EpisodeKey) -> Path:
        """Return the path of an episode's record."""
        task, policy = file_name(key.task), file_name(key.policy)
        return (
            self.path
            / "episodes"
            / task
            / file_name(key.scenario)
            / policy
            / file_name(key.condition)
            / f"{key.seed:08d}.json"
        )

    def read(self, key: EpisodeKey) -> Episode | None:
        """Return the record of an episode, None if it has not been run."""
        file = self.file(key)
        return codec.read(Episode, file, within=self.path) if self.has(key) else None

    def has(self, key: EpisodeKey) -> bool:
        """Whether an episode has been run."""
        return exists(self.file(key))

    def write(self, episode: Episode) -> None:
        """Store the record of an episode."""
        write_atomically(self.file(episode.key), (codec.dumps(episode) + "\n").encode(), self.path)

    def episodes(self) -> Iterator[Episode]:
        """Iterate over all records in a fixed order."""
        for file in sorted(self._files()):
            yield codec.read(Episode, file, within=self.path)

    def summary(self) -> Summary:
        """Compute success rates with intervals, paired tests, alarms and cost of every cell."""
        return summarise(self.episodes())

    def begin(
        self, config: StudyConfig, made: StudyManifest | None = None, frozen: Frozen | None = None
    ) -> None:
        """Write the manifest of a study, or check that the folder holds the same study.

        A folder without episodes becomes one of the new study. FailSafe's own source may change within its
        version: the manifest then lists the run that continued the study.

        Args:
            config: Configuration of the study.
            made: Manifest to write; None to make one of this process.
            frozen: The protocol that the study follows, None without one; the manifest has its own.

        Raises:
            StoreError: If the folder holds episodes of another study, or of other code, or other files.
        """
        present = self.manifest if (self.path / "manifest.json").exists() else None
        if present is not None and any(self._files()):
            if present.config != config:
                differing = ", ".join(differences(present.config, config))
                raise StoreError(
                    f"{self.path} holds results of another evaluation, which differs in {differing}: choose "
                    "another folder, or delete this one"
                )
            if present.frozen != (wanted := made.frozen if made else frozen):
                raise StoreError(
                    f"{self.path} holds results of {_protocol(present.frozen)}, expected those of "
                    f"{_protocol(wanted)}: choose another folder"
                )
            for run in (made.provenance, *made.continued) if made else (collect_provenance(),):
                if run.sources not in {known.sources for known in (present.provenance, *present.continued)}:
                    present = replace(present, continued=(*present.continued, run))
                    self._write_manifest(present)
            return
        if present is None and self.path.exists() and not all(map(is_leftover, self.path.iterdir())):
            raise StoreError(f"expected an empty folder or one of results, got {self.path} with other files")
        if made is None:
            role = role_of(range(config.first_seed, config.last_seed))
            made = StudyManifest(config, command_line(), collect_provenance(), seed_role=role, frozen=frozen)
        self._write_manifest(made)

    def take_in(self, shards: Sequence[Path]) -> int:
        """Copy the episodes of shards of the same study into this folder.

        Args:
            shards: Folders of the shards.

        Returns:
            Number of episodes that were new.

        Raises:
            StoreError: If a shard is of another study.
        """
        taken = 0
        for shard in map(Results, shards):
            self.begin(shard.manifest.config, shard.manifest)
            for file in sorted(shard._files()):
                mine = self.path / file.relative_to(shard.path)
                if not mine.exists():
                    write_atomically(mine, read_bytes(file, within=shard.path), self.path)
                    taken += 1
        return taken

    def _files(self) -> Iterator[Path]:
        return self.path.glob("episodes/*/*/*/*/*.json")

    def _write_manifest(self, manifest: StudyManifest) -> None:
        write_atomically(self.path / "manifest.json", (codec.dumps(manifest) + "\n").encode())


def _protocol(frozen: Frozen | None) -> str:
    return f"the protocol {frozen.protocol[:12]}" if frozen else "no protocol"
