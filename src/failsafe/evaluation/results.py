"""The results of a study on disk.

```
results/
  manifest.json                                       what is evaluated, and how
  episodes/TASK/SCENARIO/POLICY/CONDITION/SEED.json   one record each; a resumed run adds the missing ones
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from failsafe.datasets.files import file_name, write_atomically
from failsafe.errors import StoreError, UserError
from failsafe.evaluation.config import StudyConfig
from failsafe.evaluation.paired import Summary, summarise
from failsafe.records import codec
from failsafe.records.episode import Episode, EpisodeKey
from failsafe.records.provenance import Provenance, collect_provenance, command_line


@dataclass(frozen=True)
class StudyManifest:
    """What a folder of results is."""

    FORMAT: ClassVar[int] = 3  # 1: scores were a mean of looks; 2: conditions were called arms

    config: StudyConfig
    command: str
    provenance: Provenance


class Results:
    """A folder of results.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def manifest(self) -> StudyManifest:
        """What was evaluated.

        Raises:
            UserError: If there are no results.
        """
        file = self.path / "manifest.json"
        try:
            text = file.read_text()
        except OSError as error:
            raise UserError(f"expected results made by `failsafe evaluate`, got {self.path}") from error
        return codec.loads(StudyManifest, text, str(file))

    def file(self, key: EpisodeKey) -> Path:
        """Where an episode's record is."""
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
        """The record of an episode, None where it has not been run."""
        file = self.file(key)
        return codec.loads(Episode, file.read_text(), str(file)) if self.has(key) else None

    def has(self, key: EpisodeKey) -> bool:
        """Whether an episode has been run."""
        return self.file(key).exists()

    def write(self, episode: Episode) -> None:
        """Keep an episode's record."""
        write_atomically(self.file(episode.key), (codec.dumps(episode) + "\n").encode())

    def episodes(self) -> Iterator[Episode]:
        """Every record, in a fixed order."""
        for file in sorted(self.path.glob("episodes/*/*/*/*/*.json")):
            yield codec.loads(Episode, file.read_text(), str(file))

    def summary(self) -> Summary:
        """Compute success rates with intervals, paired tests, alarms and cost of every cell."""
        return summarise(self.episodes())

    def begin(self, config: StudyConfig, made: StudyManifest | None = None) -> None:
        """Make the folder one of this study.

        Args:
            config: What is evaluated.
            made: How it was begun, where that was not by this command.

        Raises:
            StoreError: If it holds another study, or something else.
        """
        if (self.path / "manifest.json").exists():
            if self.manifest.config != config:
                raise StoreError(f"{self.path} holds results of another evaluation; choose another folder")
            return
        if self.path.exists() and any(p.name != ".lock" for p in self.path.iterdir()):
            raise StoreError(f"expected an empty folder or one of results, got {self.path} with other files")
        made = made or StudyManifest(config, command_line(), collect_provenance())
        write_atomically(self.path / "manifest.json", (codec.dumps(made) + "\n").encode())

    def take_in(self, shards: Sequence[Path]) -> int:
        """Copy the episodes of other folders of the same study; how many were new.

        Raises:
            StoreError: If one is of another study.
        """
        taken = 0
        for shard in map(Results, shards):
            self.begin(shard.manifest.config, shard.manifest)
            for file in sorted(shard.path.glob("episodes/*/*/*/*/*.json")):
                mine = self.path / file.relative_to(shard.path)
                if not mine.exists():
                    write_atomically(mine, file.read_bytes())
                    taken += 1
        return taken
