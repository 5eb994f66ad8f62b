"""The image transform: one chain from a camera image to a network's input, for training and serving.

1. Crop the middle square.
2. Resample it to the network's size: area averaging to a smaller one, bicubic interpolation to a larger one.

An image that has the network's size already is not changed. Sample sets and demonstrations render at
`ImageTransform.source`, evaluation renders at the same size (`SizedImages`), and both apply the transform, so
that a network sees the same pixels for the same state in training and in the loop.

Which size to render at: `source = size`, the default, renders natively and is what the shipped models were
trained with. Cameras that cannot be rendered at will (a robot, a simulation behind a server) give larger
images, which are resampled. For the shipped compact model (96 px) this costs nothing that could be measured
in its assessments: PickCube-v1, 562 held-out windows of 64 seeds, rendered at 224 px and resampled, compared
with native 96 px (95 % intervals, bootstrap over seeds): balanced accuracy +0.007 [-0.000, +0.016], failure
mode +0.012 [-0.008, +0.031], cosine of the correction -0.001 [-0.003, +0.001]; objects are located 4.4 mm off
per axis in place of 3.9 mm (+0.5 [+0.2, +0.8]).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from failsafe.records.assessment import WindowSpec


@runtime_checkable
class SizedImages(Protocol):
    """Images by view that can be rendered at any size."""

    def at(self, view: str, size: int) -> UInt8[np.ndarray, "S S 3"]:
        """Return the image of a view, rendered at a size.

        Args:
            view: Name of the view.
            size: Height and width, pixels.
        """
        ...


@dataclass(frozen=True)
class ImageTransform:
    """From camera images to the images that a network takes.

    Attributes:
        size: Height and width of the result, pixels.
        source: Height and width at which a simulator renders, pixels; 0 to render at `size`.
    """

    size: int
    source: int = 0

    @classmethod
    def of(cls, spec: WindowSpec) -> ImageTransform:
        """Return the transform for a model's windows."""
        return cls(spec.size, spec.source)

    @property
    def rendered(self) -> int:
        """Height and width at which a simulator renders, pixels."""
        return self.source or self.size

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "S S 3"]:
        """Crop and resample an image; an image of the right size is returned as it is."""
        height, width = image.shape[:2]
        if (height, width) == (self.size, self.size):
            return image
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = Image.fromarray(image[top : top + side, left : left + side])
        area = Image.Resampling.BOX if side > self.size else None
        return np.asarray(square.resize((self.size, self.size), area))

    def all(self, images: UInt8[np.ndarray, "V H W 3"]) -> UInt8[np.ndarray, "V S S 3"]:
        """Transform the images of several views."""
        if images.shape[1:3] == (self.size, self.size):
            return images
        return np.stack([self(image) for image in images])

    def read(self, images: Mapping[str, Any], view: str) -> UInt8[np.ndarray, "S S 3"]:
        """Return the transformed image of a view.

        Args:
            images: RGB images by view, rendered at `rendered` where they can be rendered at any size.
            view: Name of the view.

        Raises:
            KeyError: If there is no such view.
        """
        image = images.at(view, self.rendered) if isinstance(images, SizedImages) else images[view]
        return self(image)
