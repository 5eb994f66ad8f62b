"""Tasks as users write them: subclasses with code of their own in every place that ManiSkill offers."""

import numpy as np
import sapien
import torch
from mani_skill.envs.tasks.tabletop.pick_cube import PickCubeEnv
from mani_skill.utils.building import actors
from mani_skill.utils.registration import register_env

SPEED = 0.05
"""Speed of the plate, m/s."""


class PlateTask(PickCubeEnv):
    """Watch the plate."""

    hook = ""

    def _load_scene(self, options):
        super()._load_scene(options)
        self.plate = actors.build_box(
            self.scene,
            half_sizes=[0.4, 0.4, 0.005],  # large: furniture to the adapter, but it moves
            color=[0, 0, 1, 1],
            name="plate",
            body_type="kinematic",
            initial_pose=sapien.Pose([0.0, 1.0, 0.3]),
        )

    def move(self, hook, seconds):
        if hook == self.hook:
            pose = self.plate.pose.sp
            self.plate.set_pose(sapien.Pose([0.0, pose.p[1] + SPEED * seconds, 0.3], pose.q))

    def _before_control_step(self):
        self.move("_before_control_step", 1.0 / self.control_freq)

    def _before_simulation_step(self):
        self.move("_before_simulation_step", 1.0 / self.sim_freq)

    def _after_simulation_step(self):
        self.move("_after_simulation_step", 1.0 / self.sim_freq)

    def _after_control_step(self):
        self.move("_after_control_step", 1.0 / self.control_freq)


HOOKS = ("_before_control_step", "_before_simulation_step", "_after_simulation_step", "_after_control_step")
for _hook in HOOKS:
    _members = {"hook": _hook, "__doc__": PlateTask.__doc__}
    register_env(f"Plate{_hook}-v1")(type("Plate", (PlateTask,), _members))


@register_env("Order-v1")
class Order(PickCubeEnv):
    """Write down what runs when."""

    def _initialize_episode(self, env_idx, options):
        super()._initialize_episode(env_idx, options)
        self.log = []

    def note(self, name):
        robot = self.agent.robot._objs[0]
        target = round(float(np.asarray(robot.active_joints[0].drive_target).item()), 3)
        self.log.append((name, target, int(self.elapsed_steps[0])))

    def _before_control_step(self):
        self.note("before control")

    def _before_simulation_step(self):
        self.note("before substep")

    def _after_simulation_step(self):
        self.note("after substep")

    def _after_control_step(self):
        self.note("after control")

    def evaluate(self):
        self.note("evaluate")
        return super().evaluate()


@register_env("Latch-v1")
class Latch(PickCubeEnv):
    """Lift the cube once."""

    def _initialize_episode(self, env_idx, options):
        super()._initialize_episode(env_idx, options)
        self.once = torch.zeros(self.num_envs, dtype=torch.bool)

    def evaluate(self):
        self.once |= self.cube.pose.p[:, 2] > 0.12
        return {"success": self.once}


@register_env("Patience-v1")
class Patience(PickCubeEnv):
    """Wait for six steps."""

    def evaluate(self):
        return {"success": self.elapsed_steps > 5}


@register_env("Words-v1")
class Words(PickCubeEnv):
    """Lift."""

    def evaluate(self):
        info = super().evaluate()
        return {
            "success": info["success"],
            "language_instruction": "lift",
            "prompt": None,
            "ragged": [[1.0], [2.0, 3.0]],
            "height": self.cube.pose.p[:, 2],
            "nested": {"a": 1.0},
        }


@register_env("NoSuccess-v1")
class NoSuccess(PickCubeEnv):
    """Lift."""

    def evaluate(self):
        return {"is_grasped": torch.zeros(1, dtype=torch.bool)}


@register_env("WordSuccess-v1")
class WordSuccess(PickCubeEnv):
    """Lift."""

    def evaluate(self):
        return {"success": "yes"}


@register_env("Asked-v1")
class Asked(PickCubeEnv):
    """This text is for programmers."""

    def get_language_instruction(self):
        return [f"pick up cube number {int(self._episode_seed[0])}"] * self.num_envs


class WithoutDocstring(PickCubeEnv):
    pass


register_env("WithoutDocstring-v1")(WithoutDocstring)


@register_env("Documented-v1")
class Documented(PickCubeEnv):
    """
    **Task Description:**
    The robot must e.g. lift
    the cube. Then it is to wait.

    **Randomizations:**
    - where it lies
    """


@register_env("Dice-v1")
class Dice(PlateTask):
    """Play with unseeded dice."""

    def _before_control_step(self):
        self.plate.set_pose(sapien.Pose([0.0, 1.0 + float(torch.rand(1)), 0.3]))


@register_env("Leak-v1")
class Leak(PlateTask):
    """Forget to reset a counter."""

    count = 0

    def _before_control_step(self):
        self.count += 1
        self.plate.set_pose(sapien.Pose([0.0, 1.0 + 0.001 * self.count, 0.3]))


@register_env("PlainBool-v1")
class PlainBool(PickCubeEnv):
    """Return what ManiSkill's own step cannot clone."""

    def evaluate(self):
        return {"success": False}


@register_env("Random-v1")
class Random(PlateTask):
    """Play with seeded dice, and keep a list."""

    def _initialize_episode(self, env_idx, options):
        super()._initialize_episode(env_idx, options)
        self.heights = []

    def _before_control_step(self):
        self.plate.set_pose(sapien.Pose([0.0, 1.0 + self._batched_episode_rng[0].uniform(), 0.3]))
        self.heights.append(float(self.cube.pose.p[0, 2]))


@register_env("OwnStep-v1")
class OwnStep(PickCubeEnv):
    """Do something in step that no hook shows."""

    def step(self, action):
        self.cube.set_pose(self.cube.pose.sp * sapien.Pose([0.001, 0.0, 0.0]))
        return super().step(action)


@register_env("NoEvaluation-v1")
class NoEvaluation(PickCubeEnv):
    """Forget to return something."""

    def evaluate(self):
        super().evaluate()
