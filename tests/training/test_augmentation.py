"""Scene augmentation: robot, objects and correction are mirrored, rotated and moved together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from failsafe.models import corrections
from failsafe.models.compact_net import motion_features
from failsafe.models.version_1 import EMBODIMENT, NORMALIZATION
from failsafe.records import poses
from failsafe.training.augmentation import SceneTransform, augment_scene
from failsafe.training.targets import Targets

HISTORY = 20


def _mirrored(pose: np.ndarray) -> np.ndarray:
    """Reflected at y = 0; a quaternion's vector is that of a rotation."""
    x, y, z, w, i, j, k = pose
    return np.array([x, -y, z, w, -i, j, -k])


def _turned(pose: np.ndarray, angle: float, shift: np.ndarray) -> np.ndarray:
    turn = poses.apply_delta(poses.IDENTITY, [0.0, 0.0, 0.0, 0.0, 0.0, angle])
    moved = poses.compose(turn, pose)
    moved[:2] += shift
    return moved


def _moments(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Tool poses of a history, and how open it was."""
    first = poses.apply_delta(
        np.array([0.5, 0.1, 0.2, 0.0, 1.0, 0.0, 0.0]), [0.0, 0.0, 0.0, *rng.normal(0, 0.3, 3)]
    )
    rows = [first]
    for _ in range(HISTORY):
        rows.append(poses.apply_delta(rows[-1], [*rng.normal(0, 0.01, 3), *rng.normal(0, 0.05, 3)]))
    return np.array(rows), rng.uniform(0, 0.08, HISTORY + 1).astype(np.float32)


def _truth(rows: list[list[float]]) -> Targets:
    numbers = torch.from_numpy(corrections.encode(rows, EMBODIMENT))[None]
    none, some = torch.zeros(1), torch.zeros(1, dtype=torch.long)
    return Targets(
        *(none, none, some, none, some, none),
        *(numbers, none, numbers.clone(), none, none, none),
        *(torch.zeros(1, 12), torch.zeros(1, 7), torch.zeros(1, 1, 9)),
    )


@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("angle", [0.0, 0.3, -0.2])
def test_it_is_what_would_be_seen_there(side: float, angle: float) -> None:
    rng = np.random.default_rng(3)
    shift = np.array([0.04, -0.07])
    tools, widths = _moments(rng)
    thing = np.array([0.6, -0.1, 0.02, 1.0, 0.0, 0.0, 0.0])
    actions = [[*rng.normal(0, 0.01, 3), *rng.normal(0, 0.05, 3), 1.0] for _ in range(8)]

    def there(pose: np.ndarray) -> np.ndarray:
        return _turned(_mirrored(pose) if side < 0 else pose, angle, shift)

    # The tool after each action; what leads from one to the next there is the correction there.
    path = [tools[-1]]
    for row in actions:
        path.append(poses.apply_delta(path[-1], row[:6]))
    path = [there(pose) for pose in path]
    moved_actions = [[*poses.delta_between(a, b), 1.0] for a, b in itertools.pairwise(path)]
    tools_there = np.array([there(pose) for pose in tools])

    def objects(tool: np.ndarray, at: np.ndarray) -> torch.Tensor:
        return torch.tensor([[*(10 * (at[:3] - tool[:3])), 0.0, 0.0, 0.0]], dtype=torch.float32)

    def motion(rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(motion_features(rows.astype(np.float32), widths, NORMALIZATION))[None]

    transform = SceneTransform(torch.tensor([side]), torch.tensor([angle]))
    seen = transform.objects(objects(tools[-1], thing))
    came = transform.motion(motion(tools), torch.tensor(shift[None], dtype=torch.float32), NORMALIZATION)
    torch.testing.assert_close(seen, objects(tools_there[-1], there(thing)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(came, motion(tools_there), atol=2e-4, rtol=1e-3)
    wanted = torch.from_numpy(corrections.encode(moved_actions, EMBODIMENT))[None]
    here = torch.from_numpy(corrections.encode(actions, EMBODIMENT))[None]
    torch.testing.assert_close(transform.actions(here), wanted, atol=2e-4, rtol=1e-3)


def test_objects_that_are_not_there_stay_absent_and_half_of_the_windows_are_mirrored() -> None:
    torch.manual_seed(0)
    b = 2000
    tools, widths = _moments(np.random.default_rng(0))
    motion = torch.from_numpy(motion_features(tools.astype(np.float32), widths, NORMALIZATION)).repeat(b, 1)
    one = _truth([[0.01, 0.02, 0.03, 0.0, 0.0, 0.0, 1.0]])
    truth = Targets(**{name: value.repeat(b, *[1] * (value.dim() - 1)) for name, value in vars(one).items()})
    objects = torch.tensor([[0.0, 2.0, 1.0, 0.0, 0.0, 0.0]]).repeat(b, 1)
    seen, came, there = augment_scene(objects, motion, truth, NORMALIZATION)
    assert (seen[:, 3:] == 0).all()
    torch.testing.assert_close(seen[:, 2], objects[:, 2])  # heights stay
    torch.testing.assert_close(came[:, 2], motion[:, 2])
    assert float((seen[:, 1] < 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(seen.norm(dim=1), objects.norm(dim=1))
    torch.testing.assert_close(there.objects, truth.objects)
    assert (there.correction[:, 1] * seen[:, 1] > 0).float().mean() > 0.95  # mirrored with the object
