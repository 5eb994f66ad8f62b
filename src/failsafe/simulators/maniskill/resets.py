"""Resets of a ManiSkill environment with less garbage collection."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Generator
from typing import Any

_RESETS_PER_COLLECTION = 8


class Resets:
    """Resets one environment to seeds.

    ManiSkill collects garbage on every rebuild of a scene, which takes 150 ms because of torch's many
    objects. This class runs every eighth collection in full. Old scenes of 11 MB each wait until then.

    Args:
        env: The unwrapped ManiSkill environment.
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        self._count = 0

    def reset(self, seed: int) -> dict[str, Any]:
        """Let ManiSkill draw the initial state of a seed.

        Returns:
            ManiSkill's info. "reconfigure" tells whether the scene was built anew.
        """
        self._count += 1
        with _shielded_from_collection(self._count % _RESETS_PER_COLLECTION != 0):
            _, info = self._env.reset(seed=seed)
        return info


@contextlib.contextmanager
def _shielded_from_collection(shield: bool) -> Generator[None, None, None]:
    """Exclude all existing objects from garbage collection within the context."""
    if not shield or gc.get_freeze_count() > 0:  # objects frozen by other code must stay frozen
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
