"""Checkpoints that describe what they are not: one sentence, before memory is allocated."""

from __future__ import annotations

import copy
import json
import resource
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.targets import Target

from failsafe.errors import FailSafeError, RecordError
from failsafe.models.compact import load_compact

COMPACT = (
    *({"hidden": value} for value in (10**9, 65_536, -1, 0)),
    *({"widths": value} for value in ([], [4], [4, 4, 4, 0], [4096, 4, 4, 4], [10**9] * 4)),
    *({"intrinsics": []}, {"objects": 0}, {"objects": 256}, {"modes": []}, {"stages": []}),
    *({"window": {"size": value}} for value in (0, -1, 15, 1024, 4097, 10**9)),
    *({"window": {"frames": value}} for value in (0, -1, 6, 10**9)),
    *({"window": {"history": value}} for value in (0, 4000, 10**9)),
    *({"window": {"views": value}} for value in ([], ["front"] * 16, ["front"] * 10**5)),
)
REFERENCE = (
    *({name: value} for name in ("hidden", "chunk", "size") for value in (0, -1, 1000, 10**9)),
    *(
        {"keyframes": -1},
        {"keyframes": 200},
        {"views": []},
        {"rate_hz": 0.0},
        {"reach": [[], []]},
        {"orientation": [1.0]},
        {"orientation": [0.0] * 4},
    ),
)


def refused(target: Target, changes: dict[str, Any], place: Path) -> None:
    value = copy.deepcopy(target.valid)
    for name, change in changes.items():
        change = {**value["config"][name], **change} if isinstance(change, dict) else change
        value["config"][name] = change
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FailSafeError) as error:
        target.use(value, place)
    assert len(str(error.value)) < 1000
    assert time.process_time() - begun < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("changes", COMPACT, ids=lambda changes: str(changes)[:40])
def test_a_compact_model_of_absurd_sizes(
    changes: dict[str, Any], targets: dict[str, Target], place: Path
) -> None:
    refused(targets["description of a compact model"], changes, place)


@pytest.mark.parametrize("changes", REFERENCE, ids=lambda changes: str(changes)[:40])
def test_a_policy_of_absurd_sizes(changes: dict[str, Any], targets: dict[str, Target], place: Path) -> None:
    refused(targets["description of a policy"], changes, place)


def test_headers_that_lie(targets: dict[str, Target], place: Path, tmp_path: Path) -> None:
    data = (place / "inside" / "checkpoints" / "compact.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    name = next(key for key in header if key != "__metadata__")

    def written(entry: dict[str, Any], length: int | None = None) -> Path:
        text = json.dumps({**header, name: {**header[name], **entry}}).encode()
        start = struct.pack("<Q", len(text) if length is None else length)
        path = tmp_path / "lies.safetensors"
        path.write_bytes(start + text + data[8 + size :])
        return path

    for path in (
        lambda: written({"shape": [10**12]}),
        lambda: written({"shape": [-1]}),
        lambda: written({"data_offsets": [0, 2**62]}),
        lambda: written({"data_offsets": [8, 0]}),
        lambda: written({"dtype": "F8_E4M3"}),
        lambda: written({"dtype": "none"}),
        lambda: written({}, 0),
        lambda: written({}, 2**63),
        lambda: written({}, len(data)),
    ):
        with pytest.raises(RecordError, match="expected") as error:
            load_compact(path())
        assert len(str(error.value)) < 1000
