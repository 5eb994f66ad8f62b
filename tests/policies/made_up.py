import numpy as np

from failsafe.records import poses
from failsafe.records.observation import PolicyObservation

DOWN = (0.0, 1.0, 0.0, 0.0)


def make_observation(seed=0, size=224, views=("front", "hand", "side")):
    rng = np.random.default_rng(seed)
    return PolicyObservation(
        images={view: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for view in views},
        tcp_pose=poses.pose([0.1, -0.2, 0.3], DOWN),
        target_pose=poses.pose([0.11, -0.2, 0.29], DOWN),
        gripper_width=0.06,
    )
