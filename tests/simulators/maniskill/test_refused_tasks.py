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
