"""The last moments of an episode, kept so that a window can be cut at any step."""

from __future__ import annotations

from collections import deque

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from failsafe.records.assessment import Window, WindowSpec
from failsafe.records.observation import PolicyObservation


class History:
    """What a recovery model may look back on.

    Pictures are asked for only when a window is cut: where they are rendered on demand, most never are.

    Args:
        spec: The windows that the model takes.
    """

    def __init__(self, spec: WindowSpec) -> None:
        self._spec = spec
        self._moments: deque[PolicyObservation] = deque(maxlen=spec.history + 1)

    def clear(self) -> None:
        """Forget everything: another episode begins."""
        self._moments.clear()

    def add(self, observation: PolicyObservation) -> None:
        """One control step more."""
        self._moments.append(observation)

    @property
    def full(self) -> bool:
        """Whether the episode is long enough for a window."""
        return len(self._moments) == self._spec.history + 1

    @property
    def moments(self) -> tuple[PolicyObservation, ...]:
        """The observations, oldest first."""
        return tuple(self._moments)

    def window(self, instruction: str) -> Window:
        """The window that ends now. Needs `full`."""
        spec, moments = self._spec, self.moments
        frames = np.stack(
            [
                np.stack([fit(moments[offset - 1].images[view], spec.size) for offset in spec.offsets])
                for view in spec.views
            ]
        )
        return Window(
            instruction=instruction,
            spec=spec,
            frames=frames,
            tcp_poses=np.stack([m.tcp_pose for m in moments]).astype(np.float32),
            gripper_widths=np.array([m.gripper_width for m in moments], dtype=np.float32),
        )


def fit(image: UInt8[np.ndarray, "H W 3"], size: int) -> UInt8[np.ndarray, "S S 3"]:
    """A picture at the size that a network takes; the middle square where it is not square."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(square.resize((size, size), Image.Resampling.BOX if side > size else None))
