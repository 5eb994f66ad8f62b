"""Resets of a ManiSkill environment, without most of the time that its rebuilds spend on garbage."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Generator
from typing import Any

_RESETS_PER_COLLECTION = 8


class Resets:
    """Resets one environment to seeds.

    ManiSkill collects garbage whenever it rebuilds a scene: 150 ms, as torch is large. Old scenes, of 11 MB
    each, are garbage that must go, but not at once.

    Args:
        env: The unwrapped ManiSkill environment.
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        self._count = 0

    def reset(self, seed: int) -> bool:
        """Let ManiSkill draw the initial state of a seed; whether the scene's entities are new ones."""
        self._count += 1
        with _shielded_from_collection(self._count % _RESETS_PER_COLLECTION != 0):
            _, info = self._env.reset(seed=seed)
        return bool(info["reconfigure"])


@contextlib.contextmanager
def _shielded_from_collection(shield: bool) -> Generator[None, None, None]:
    """While this lasts, the garbage collector does not walk through what there is already."""
    if not shield or gc.get_freeze_count() > 0:  # who has frozen objects for good wants them to stay so
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
