"""Windows and samples that need no simulator: each has images and answers of its own."""

import numpy as np

from failsafe.records.assessment import Window, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA
from failsafe.samples.sample import Kind, Sample

SPEC = WindowSpec(views=("front", "hand"), history=1, frames=2, size=28)
STAGES = ("reach", "grasp", "lift", "goal")
MODES = ("translation_x", "slip", "no_op", "compound")


def make_sample(index: int, split: str = "train") -> Sample:
    rng = np.random.default_rng([7, index])
    failing = index % 2 == 1
    helpless = index % 8 == 7
    row = (
        *np.round(rng.uniform(-0.0144, 0.0144, 3), 4).tolist(),
        *np.round(rng.uniform(-0.07, 0.07, 3), 4).tolist(),
        -1.0 if index % 4 == 1 else 1.0,
    )
    actions = () if not failing or helpless else (row,) * int(rng.integers(1, 5))
    return Sample(
        name=f"sample-{index}",
        source=0,
        task="Made-up-v1",
        seed=index,
        split=split,
        rollout="failing" if failing else "nominal",
        case_id="",
        step=30,
        kind=Kind.LATE if failing else Kind.NOMINAL,
        instruction="Pick up the red cube",
        stage=STAGES[index // 2 % len(STAGES)],
        failing=failing,
        mode=MODES[index // 2 % len(MODES)] if failing else "",
        delay=12 if failing else None,
        actions=actions,
        recoverable=not helpless if failing else None,
    )


def make_window(index: int, spec: WindowSpec = SPEC) -> Window:
    """Only the images tell one from another: the proprioception is the same for all."""
    rng = np.random.default_rng([11, index])
    shape = (len(spec.views), spec.frames, spec.size, spec.size, 3)
    # Four large patches of one colour each survive any resizing.
    patches = rng.integers(0, 256, (len(spec.views), spec.frames, 2, 2, 3), dtype=np.uint8)
    half = spec.size // 2
    frames = patches.repeat(half, axis=2).repeat(half, axis=3)
    assert frames.shape == shape
    poses = np.tile(np.float32([0.5, 0.01, 0.2, 0.0, 1.0, 0.0, 0.0]), (spec.history + 1, 1))
    return Window(
        instruction="Pick up the red cube",
        spec=spec,
        frames=frames,
        tcp_poses=poses,
        gripper_widths=np.full(spec.history + 1, 0.04, np.float32),
        name=f"sample-{index}",
    )


class MadeUpSamples:
    """Has the interface of a set of samples on disk."""

    def __init__(self, count: int, spec: WindowSpec = SPEC, tests: int = 0) -> None:
        self.spec, self.embodiment = spec, MANISKILL_PANDA
        self.samples = [make_sample(i, "train" if i < count else "test") for i in range(count + tests)]

    def indices(self, split: str) -> list[int]:
        return [i for i, sample in enumerate(self.samples) if sample.split == split]

    def window(self, index: int) -> Window:
        return make_window(index, self.spec)
