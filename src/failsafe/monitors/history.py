"""The last observations of an episode, from which a window can be cut at any step."""

from __future__ import annotations

from collections import deque

import numpy as np

from failsafe.records.assessment import Window, WindowSpec
from failsafe.records.observation import PolicyObservation
from failsafe.records.transforms import ImageTransform


class History:
    """The observations that a recovery model's window covers.

    Images are read only when a window is cut. Where images are rendered on demand, most never are.

    Args:
        spec: The windows that the model takes.
    """

    def __init__(self, spec: WindowSpec) -> None:
        self._spec = spec
        self._transform = ImageTransform.of(spec)
        self._observations: deque[PolicyObservation] = deque(maxlen=spec.history + 1)

    def clear(self) -> None:
        """Drop all observations."""
        self._observations.clear()

    def add(self, observation: PolicyObservation) -> None:
        """Add the observation of one more control step."""
        self._observations.append(observation)

    @property
    def full(self) -> bool:
        """Whether there are enough observations for a window."""
        return len(self._observations) == self._spec.history + 1

    @property
    def observations(self) -> tuple[PolicyObservation, ...]:
        """The observations, oldest first."""
        return tuple(self._observations)

    def window(self, instruction: str) -> Window:
        """Return the window that ends now. The history must be full.

        Args:
            instruction: The instruction of the episode.
        """
        spec, observations = self._spec, self.observations
        frames = np.stack(
            [
                np.stack([self._transform.read(observations[o - 1].images, view) for o in spec.offsets])
                for view in spec.views
            ]
        )
        return Window(
            instruction=instruction,
            spec=spec,
            frames=frames,
            tcp_poses=np.stack([o.tcp_pose for o in observations]).astype(np.float32),
            gripper_widths=np.array([o.gripper_width for o in observations], dtype=np.float32),
        )
