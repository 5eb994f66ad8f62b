"""Robots, assets and machines that the adapter does not support: one sentence each, and never a question."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("mani_skill")

from mani_skill.agents.registration import register_agent
from mani_skill.agents.robots.panda.panda import Panda
from mani_skill.envs.tasks.tabletop.pick_cube import PickCubeEnv
from mani_skill.utils.registration import register_env

from failsafe.errors import MissingAssetsError, MissingRendererError, UserError
from failsafe.simulators.maniskill.instructions import find_instruction
from failsafe.simulators.maniskill.task_code import TaskCode
from failsafe.simulators.maniskill.tasks import check_known, make_env

pytestmark = pytest.mark.maniskill


@register_agent()
class NoFiles(Panda):
    uid = "robot_without_files"
    urdf_path = "/nowhere/robot.urdf"


def task_with(robot):
    """Register PickCube with another robot; return its name."""

    class WithRobot(PickCubeEnv):
        """Lift."""

        SUPPORTED_ROBOTS = (robot,)

        def __init__(self, **settings):
            super().__init__(**{"robot_uids": robot, **settings})

    name = f"Pick-{robot}-v1"
    register_env(name)(WithRobot)
    return name


@pytest.fixture(autouse=True)
def _no_questions(monkeypatch):
    def ask(prompt=""):
        raise AssertionError(f"a question on standard input: {prompt}")

    monkeypatch.setattr("builtins.input", ask)


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ("PickCubeSO100-v1", "the robot 'so100', which has no tool link"),
        ("TwoRobotPickCube-v1", r"2 robots \(panda_wristcam, panda_wristcam\)"),
        ("TriFingerRotateCubeLevel0-v1", "the robot 'trifingerpro', which has no tool link"),
        ("RotateSingleObjectInHandLevel0-v1", "the robot 'allegro_hand_right_touch', which has no tool link"),
        (
            "MS-CartpoleBalance-v1",
            r"without the control mode pd_joint_pos \(it has \['pd_joint_delta_pos'\]\)",
        ),
    ],
)
def test_an_unsupported_robot_is_one_sentence(task, problem):
    with pytest.raises(UserError, match=problem) as raised:
        make_env(task)
    assert "supports one arm with a tool link (agent.tcp), control mode pd_joint_pos" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("task", ["OpenCabinetDrawer-v1", "TurnFaucet-v1", "PickSingleYCB-v1"])
def test_missing_assets_of_a_task_name_the_download(task):
    with pytest.raises(MissingAssetsError, match=f"download_asset {task}`, then try again"):
        check_known(task)


def test_missing_assets_of_a_robot_name_the_download(capsys):
    with pytest.raises(MissingAssetsError, match=r"the robot 'widowx250s' needs .*_asset widowx250s`"):
        make_env(task_with("widowx250s"))
    assert capsys.readouterr().out == ""  # standard output belongs to `--json`


def test_a_robot_whose_files_nobody_has_names_the_file():
    with pytest.raises(MissingAssetsError, match=r"robot_without_files .*/nowhere/robot\.urdf; .*urdf_path"):
        make_env(task_with("robot_without_files"))


def test_without_a_vulkan_device_there_is_one_sentence():
    code = (
        "from failsafe.errors import MissingRendererError\n"
        "from failsafe.simulators.maniskill.tasks import make_env\n"
        "try:\n    make_env('PickCube-v1')\n"
        "except MissingRendererError as error:\n    import json; print(json.dumps(str(error)))"
    )
    nowhere = {"VK_DRIVER_FILES": "/dev/null", "VK_ICD_FILENAMES": "/dev/null"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | nowhere
    )
    assert done.returncode == 0, done.stderr
    message = json.loads(done.stdout)
    assert message.startswith("expected a Vulkan device (ManiSkill needs one to build 'PickCube-v1', even")
    assert "`failsafe doctor`" in message
    assert issubclass(MissingRendererError, UserError)


class Faulty(PickCubeEnv):
    """A task whose own code raises exceptions. It is never built: its methods are called alone."""

    def __init__(self):
        self.agent = object.__new__(Panda)

    def __del__(self):
        pass

    def get_language_instruction(self, env_idx):
        return "lift"

    def _before_control_step(self):
        raise KeyError("fan")

    def _before_simulation_step(self):
        raise RuntimeError("no wind\nat all")

    def _after_simulation_step(self):
        raise ZeroDivisionError

    def _after_control_step(self):
        raise IndexError("list index out of range")

    def get_info(self):
        return self.evaluate()

    def evaluate(self):
        raise AttributeError("no attribute 'lid'")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda code, env: find_instruction("Faulty-v1", env),
            r"get_language_instruction() to run, got TypeErr",
        ),
        (
            lambda code, env: code.before_control_step(),
            "_before_control_step() to run, got KeyError: 'fan' (test",
        ),
        (
            lambda code, env: code.before_substep(),
            "_before_simulation_step() to run, got RuntimeError: no wind at",
        ),
        (
            lambda code, env: code.after_substep(),
            "_after_simulation_step() to run, got ZeroDivisionError (test_",
        ),
        (
            lambda code, env: code.after_control_step(),
            "_after_control_step() to run, got IndexError: list index",
        ),
        (
            lambda code, env: code.evaluate(),
            "evaluate() to run, got AttributeError: no attribute 'lid' (test_ref",
        ),
    ],
)
def test_a_task_whose_code_raises_is_one_sentence(call, sentence):
    env = Faulty()
    with pytest.raises(UserError) as caught:
        call(TaskCode("Faulty-v1", env), env)
    assert str(caught.value).startswith(f"task 'Faulty-v1': expected its {sentence}")
    assert str(caught.value).endswith(": its code has to be mended")
    assert "\n" not in str(caught.value)


def test_a_task_that_needs_a_renderer_to_be_built_is_one_sentence():
    with pytest.raises(
        UserError, match=r"task 'PushT-v1': expected a scene, which FailSafe builds without a ren"
    ):
        make_env("PushT-v1")
