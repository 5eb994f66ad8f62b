"""The MuJoCo engine on a scene of its own: a box, a drawer with a heavy damper, a knob and a fixture."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from failsafe.errors import DivergedError, UnknownNameError
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import JointType, Role
from failsafe.simulators.mujoco.bindings import mujoco
from failsafe.simulators.mujoco.contacts import GraspDetector
from failsafe.simulators.mujoco.forcing import Forcing
from failsafe.simulators.mujoco.scene import find_objects, observe_objects, place_object
from failsafe.simulators.mujoco.state import SimulationState

pytestmark = pytest.mark.metaworld
SCENE = """
<mujoco><option timestep="0.0025"/><worldbody>
  <geom name="floor" type="plane" size="1 1 0.1"/>
  <body name="box" pos="0.3 0 0.0195"><freejoint/>
    <geom name="box" type="box" size="0.02 0.02 0.02" mass="0.1"/></body>
  <body name="cabinet" pos="0 0.5 0.1"><geom type="box" size="0.01 0.01 0.1"/>
    <body name="drawer_link" pos="0.1 0 0">
      <joint type="slide" axis="1 0 0" range="0 0.2" limited="true" damping="50"/>
      <geom type="box" size="0.05 0.05 0.03" mass="0.5"/></body></body>
  <body name="knob" pos="-0.4 0 0.1"><joint type="hinge" axis="0 0 1"/>
    <geom type="box" size="0.04 0.01 0.01" mass="0.1"/></body>
  <body name="shelf" pos="0 -0.5 0.1"><geom type="box" size="0.05 0.05 0.1"/></body>
  <body name="left" pos="0.2785 0 0.02"><geom name="left" type="box" size="0.002 0.01 0.01"/></body>
  <body name="right" pos="0.3215 0 0.02"><geom name="right" type="box" size="0.002 0.01 0.01"/></body>
  <body name="hand" pos="0 0 1"><geom type="sphere" size="0.01"/></body>
</worldbody></mujoco>"""
NOT_OBJECTS = ("left", "right", "hand")


@pytest.fixture
def scene():
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data, find_objects(model, data, NOT_OBJECTS, {"box": "cube"})


def step(scene, disturbances, substeps=20):
    model, data, objects = scene
    forcing = Forcing(model, data, objects, model.body("hand").id)
    mujoco.mj_forward(model, data)
    before = observe_objects(objects, data)
    forcing.begin(disturbances)
    for _ in range(substeps):
        forcing.before_substep()
        mujoco.mj_step(model, data)
        forcing.after_substep()
    forcing.end()
    mujoco.mj_forward(model, data)
    return observe_objects(objects, data) - before


def test_objects_have_the_names_sizes_and_joints_of_the_model(scene):
    specs = {o.spec.name: o.spec for o in scene[2]}
    assert list(specs) == ["cube", "drawer", "knob", "shelf"]
    assert specs["cube"].half_extents == pytest.approx((0.02, 0.02, 0.02))
    assert specs["shelf"].role is Role.FIXED
    drawer, knob = specs["drawer"].joint, specs["knob"].joint
    assert drawer is not None
    assert (drawer.type, drawer.low, drawer.high) == (JointType.PRISMATIC, 0.0, 0.2)
    assert knob is not None
    assert knob.type is JointType.REVOLUTE


def test_an_imposed_velocity_moves_a_free_object_despite_its_weight(scene):
    place_object(*scene[:2], scene[2][0], np.array([0.3, 0.3, 0.0195, 1.0, 0.0, 0.0, 0.0]))
    moved = step(scene, [Disturbance("cube", (0.2, 0.0, 0.4, 0.0, 0.0, 0.0))])
    np.testing.assert_allclose(moved[0, :3], [0.01, 0.0, 0.02], atol=5e-4)


def test_a_damped_drawer_moves_by_the_share_along_its_slide(scene):
    moved = step(scene, [Disturbance("drawer", (0.2, 0.3, 0.4, 0.0, 0.0, 0.0))])
    np.testing.assert_allclose(moved[1, :3], [0.01, 0.0, 0.0], atol=2e-4)
    assert not scene[1].qfrc_applied.any()


def test_a_knob_is_turned_at_its_rim_or_by_an_angular_velocity(scene):
    # 0.1 m/s at a rim 0.04 m from the axis for 0.05 s is 0.125 rad; a quaternion has half of the angle.
    assert step(scene, [Disturbance("knob", (0.0, 0.1, 0.0, 0.0, 0.0, 0.0))])[2, 6] == pytest.approx(
        0.0625, abs=2e-3
    )
    mujoco.mj_resetData(scene[0], scene[1])
    assert step(scene, [Disturbance("knob", (0.0,) * 5 + (1.0,))])[2, 6] == pytest.approx(0.025, abs=1e-3)


def test_friction_and_priority_are_restored(scene):
    friction, priority = scene[0].geom_friction.copy(), scene[0].geom_priority.copy()
    step(scene, [Disturbance("cube", None, 0.0)])
    np.testing.assert_array_equal(scene[0].geom_friction, friction)
    np.testing.assert_array_equal(scene[0].geom_priority, priority)
    with pytest.raises(UnknownNameError):
        step(scene, [Disturbance("box", (0.0,) * 6)])


def test_an_object_between_two_fingers_is_held(scene):
    model, data, objects = scene
    fingers = tuple({model.geom(side).id} for side in ("left", "right"))
    grasp = GraspDetector(model, data, fingers, objects)
    # The fingers stand 0.5 mm inside the box on both sides.
    assert grasp.held() == ("cube",)
    place_object(model, data, objects[0], np.array([0.3, 0.3, 0.05, 1.0, 0.0, 0.0, 0.0]))
    mujoco.mj_forward(model, data)
    assert grasp.held() == ()


def test_a_state_restores_bit_for_bit_in_contact(scene):
    model, data, _ = scene
    state = SimulationState(model, data)
    states = []
    for _ in range(20):
        mujoco.mj_step(model, data, 5)
        state.round()
        states.append(state.read())
    state.write(states[9])
    for expected in states[10:]:
        mujoco.mj_step(model, data, 5)
        state.round()
        assert state.read().tobytes() == expected.tobytes()
    assert max(float(np.abs(s).max()) for s in states) < 1e4


def test_physics_that_diverges_is_an_error(scene):
    model, data, _ = scene
    state = SimulationState(model, data)
    data.qvel[0] = 1e12
    mujoco.mj_step(model, data)
    with pytest.raises(DivergedError):
        state.round()
    mujoco.mj_resetData(model, data)
    state.round()
