"""Whatever others wrote is read, or refused in one sentence: in little time and memory, within its folder.

`make fuzz` runs many more examples: FAILSAFE_FUZZ is their number for each target.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.hostile.mutations import array_maps, byte_strings, plain_values
from tests.hostile.targets import Target

from failsafe.cli.streams import printable
from failsafe.errors import FailSafeError
from failsafe.imports import ImportRules, following

EXAMPLES = int(os.environ.get("FAILSAFE_FUZZ", "15"))
SECONDS = 2.0
MEMORY = 200 << 20
NAMES = (
    *("case", "nominal", "traces of a case", "trace of a nominal rollout", "bytes of a case", "manifest"),
    *("index of frames", "mined manifest", "mined case", "manifest of samples", "records of samples"),
    *("arrays of samples", "bytes of images", "manifest of demonstrations", "arrays of demonstrations"),
    *("episode", "manifest of results", "video", "protocol", "bytes of an episode table"),
    *("description of a compact model", "description of a policy", "bytes of a compact model"),
    *("bytes of a policy", "card", "calibration", "predictions", "modes", "visual questions"),
    *("bytes of a request", "fields of a request", "bytes of an answer", "bytes of a chunk"),
    *("actions as JSON", "actions as lists", "chat completion"),
)


def mutated(valid: Any) -> Any:
    if isinstance(valid, bytes):
        return byte_strings(valid)
    if isinstance(valid, dict) and valid and all(isinstance(v, np.ndarray) for v in valid.values()):
        return array_maps(valid)
    return plain_values(valid)


@pytest.mark.parametrize("name", NAMES)
def test_what_others_wrote_is_read_or_refused(name: str, targets: dict[str, Target], place: Path) -> None:
    assert tuple(targets) == NAMES
    target = targets[name]
    check(target.use, target.valid, place)  # the valid one, which also pays for what is made once

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES < 100,
        database=None,
        phases=[Phase.generate] if EXAMPLES < 100 else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated(target.valid))
    def try_it(data: Any) -> None:
        check(target.use, data, place)

    try_it()
    around = sorted(path.name for path in [*place.iterdir(), *(place / "outside").iterdir()])
    assert around == ["inside", "kept", "outside"]
    assert (place / "outside" / "kept").read_text() == "kept"


def check(use: Callable[[Any, Path], object], data: Any, place: Path) -> None:
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with following(ImportRules(any=False)), np.errstate(all="ignore"):
        try:
            use(data, place / "inside" / "scratch")
            sentence = ""
        except FailSafeError as error:
            sentence = str(error)
    assert len(sentence) < 20_000
    assert "\x1b" not in printable(sentence)
    assert time.process_time() - begun < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < MEMORY
