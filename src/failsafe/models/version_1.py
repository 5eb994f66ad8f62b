"""Migration of the checkpoints of version 1: renamed submodules and fields, and implied constants.

Version 1 worked for one robot, so its checkpoints do not state their embodiment. The values here are those
that its code contained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from failsafe.models.normalization import Normalization
from failsafe.records import codec
from failsafe.records.embodiment import MANISKILL_PANDA

SUBMODULES: Mapping[str, str] = {
    "finder": "localizer",
    "eyes": "encoders",
    "about": "view_heads",
    "present": "presence",
    "correct": "refiner",
}
"""Present names of a network's submodules by their names in version 1."""
NORMALIZATION = Normalization(origin=(0.6, 0.0, 0.15), position_scale=5.0, width_scale=20.0)
"""How version 1 scaled proprioception."""
EMBODIMENT = MANISKILL_PANDA
"""The robot of every dataset that version 1 shipped a checkpoint for."""


def migrate_compact_meta(fields: dict[str, Any]) -> dict[str, Any]:
    """Bring the fields of `CompactMeta` format 1 to format 2."""
    config = dict(fields["config"])
    config["intrinsics"] = config.pop("lenses", [])
    config["proprioception_only"] = config.pop("blind", False)
    config["objects"] = 4
    config["embodiment"] = codec.to_plain(EMBODIMENT)
    config["normalization"] = codec.to_plain(NORMALIZATION)
    return {**fields, "config": config}


def migrate_reference_meta(fields: dict[str, Any]) -> dict[str, Any]:
    """Bring the fields of `ReferenceMeta` format 1 to format 2."""
    config = {**fields["config"], "normalization": codec.to_plain(NORMALIZATION)}
    return {**fields, "config": config}
