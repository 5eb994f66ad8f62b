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
from failsafe.records.files import LARGEST, read_bytes

_BATCH, _MOST_ROWS = 256, 1_000_000
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
    row = 0
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        _check_table(file, path)
        # Only the text is read, and little of it at a time.
        for batch in file.iter_batches(_BATCH, columns=["record"]):
            for text in batch["record"].to_pylist():
                yield codec.loads(Episode, str(text), f"{path}, row {row}")
                row += 1
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:  # OSError for damaged pages
        raise RecordError(f"{path}: expected Parquet, got a damaged file ({error!s:.200})") from error


def _check_table(file: pq.ParquetFile, path: Path) -> None:
    """Refuse other columns, and more rows or bytes than a study has, before anything is expanded."""
    names, rows = file.schema_arrow.names, file.metadata.num_rows
    if tuple(names) != _COLUMNS or file.schema_arrow.field("record").type != pa.string():
        raise RecordError(f"{path}: expected the columns {', '.join(_COLUMNS)}, got {names!s:.200}")
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    size = sum(group.total_byte_size for group in groups)
    if rows > _MOST_ROWS or not 0 <= size <= LARGEST:
        raise RecordError(
            f"{path}: expected at most {_MOST_ROWS} episodes of {LARGEST} bytes in all, got {rows} of {size}"
        )
