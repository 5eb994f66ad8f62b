"""The episode table: all records of a study in one small Parquet file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from failsafe.datasets.files import write_atomically
from failsafe.errors import RecordError
from failsafe.records import codec
from failsafe.records.episode import Episode
from failsafe.records.files import read_bytes

_COLUMNS = ("task", "scenario", "policy", "condition", "seed", "ending", "steps", "record")


def write_episode_table(episodes: Iterable[Episode], path: Path) -> int:
    """Write episodes as Parquet: one column per part of the key, and the whole record as JSON.

    Args:
        episodes: The episodes.
        path: The file.

    Returns:
        Number of episodes.
    """
    rows = [
        {
            "task": e.key.task,
            "scenario": e.key.scenario,
            "policy": e.key.policy,
            "condition": e.key.condition,
            "seed": e.key.seed,
            "ending": e.ending.value,
            "steps": e.steps,
            "record": codec.dumps(e),
        }
        for e in episodes
    ]
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, buffer, compression="zstd", compression_level=19)
    write_atomically(path, buffer.getvalue())
    return len(rows)


def read_episode_table(path: Path) -> Iterator[Episode]:
    """Read the episodes of a file that `write_episode_table` wrote.

    Raises:
        UserError: If there is no such file.
        RecordError: If it holds something else.
    """
    data = read_bytes(path, f"expected an episode table, got {path}, which does not exist")
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (OSError, pa.ArrowInvalid) as error:  # pyarrow raises OSError for damaged pages
        raise RecordError(f"{path}: expected Parquet, got a damaged file ({error})") from error
    if tuple(table.column_names) != _COLUMNS:
        raise RecordError(f"{path}: expected the columns {', '.join(_COLUMNS)}, got {table.column_names}")
    for row, text in enumerate(table["record"].to_pylist()):
        yield codec.loads(Episode, str(text), f"{path}, row {row}")
