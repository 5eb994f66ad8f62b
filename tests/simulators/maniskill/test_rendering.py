import os
import subprocess
import sys

import numpy as np
import pytest

from failsafe.errors import MissingRendererError, UnknownNameError
from failsafe.records import poses
from failsafe.simulators.cameras import look_at
from failsafe.simulators.contract import Camera

pytest.importorskip("mani_skill")
pytest.importorskip("fast_simplification")

from failsafe.simulators.maniskill import rendering
from failsafe.simulators.maniskill.meshes import Detail, load_simplified, simplified

pytestmark = pytest.mark.maniskill
render = pytest.mark.render

SIZE = 224
VIEWS = ("front", "side", "hand")
CAMERAS = [rendering.default_camera(name) for name in VIEWS]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAILSAFE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def cube():
    renderer = rendering.SceneRenderer("PickCube-v1")
    yield renderer
    renderer.close()


def articulation(renderer):
    return renderer.env.agent.robot._objs[0]


def bend(renderer, joint, radians):
    joints = articulation(renderer).qpos
    joints[joint] += radians
    articulation(renderer).qpos = joints


def difference(a, b):
    return np.abs(a.astype(int) - b).mean(axis=(-3, -2, -1))


# ---------------------------------------------------------------- meshes


def sphere(rings=60):
    """A unit sphere whose triangles share no vertices, as renderers hand them out."""
    u, v = np.meshgrid(
        np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, 2 * rings + 1), indexing="ij"
    )
    grid = np.round(np.stack([np.sin(u) * np.cos(v), np.sin(u) * np.sin(v), np.cos(u)], axis=-1), 6)
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
    corners = np.concatenate([np.stack([a, b, c], 2).reshape(-1, 3), np.stack([a, c, d], 2).reshape(-1, 3)])
    return corners.astype(np.float32), np.arange(len(corners), dtype=np.uint32).reshape(-1, 3)


@pytest.mark.parametrize(("triangles", "kept"), [(20, 20), (1000, 300), (20_000, 2000), (425_160, 3000)])
def test_a_tenth_is_kept_within_bounds(triangles, kept):
    assert Detail().target(triangles) == kept


def test_a_simplified_sphere_is_still_a_sphere():
    vertices, triangles = sphere()
    mesh = simplified(vertices, triangles, Detail())
    assert 1000 < len(mesh.triangles) <= 1440 < len(triangles)
    radii = np.linalg.norm(mesh.vertices, axis=1)
    assert 0.98 < radii.min() <= radii.max() < 1.02
    # Normals that were those of the faces, or pointed inwards, would not be along the radius.
    along = np.sum(mesh.normals * mesh.vertices, axis=1) / radii
    assert np.median(along) > 0.999


def test_what_resists_simplification_is_merged():
    # Pyramids apart from each other, a hundred times more of them than may be kept.
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    offsets = np.stack(np.meshgrid(*[np.arange(13.0) * 1.5] * 3), axis=-1).reshape(-1, 3).astype(np.float32)
    vertices = (offsets[:, None] + corners).reshape(-1, 3)
    triangles = (4 * np.arange(len(offsets))[:, None, None] + faces).reshape(-1, 3)
    mesh = simplified(vertices, triangles, Detail(least=10, most=100))
    assert 0 < len(mesh.triangles) <= 120


def test_the_edges_of_a_box_stay_sharp():
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float32)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    mesh = simplified(corners, triangles, Detail())
    assert len(mesh.triangles) == 12
    assert np.allclose(np.sort(np.abs(mesh.normals), axis=1), [0, 0, 1], atol=1e-6)
    outwards = np.sum(mesh.normals * (mesh.vertices - 0.5), axis=1)
    assert np.allclose(outwards, 0.5, atol=1e-6)


def test_a_mesh_is_simplified_once(tmp_path, monkeypatch):
    vertices, triangles = sphere()
    first = load_simplified(vertices, triangles, Detail(), tmp_path)
    monkeypatch.setattr("failsafe.simulators.maniskill.meshes.simplified", None)
    second = load_simplified(vertices, triangles, Detail(), tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    vertices, triangles = sphere()
    first = load_simplified(vertices, triangles, Detail(), tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage or whole[: len(whole) // 2])
    second = load_simplified(vertices, triangles, Detail(), tmp_path)
    assert np.array_equal(first.vertices, second.vertices)
    assert path.read_bytes() == whole


def test_other_shapes_and_other_details_have_files_of_their_own(tmp_path):
    vertices, triangles = sphere()
    load_simplified(vertices, triangles, Detail(), tmp_path)
    load_simplified(vertices, triangles, Detail(ratio=0.2), tmp_path)
    load_simplified(1.1 * vertices, triangles, Detail(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_cannot_be_written_costs_no_mesh(tmp_path):
    (tmp_path / "file").touch()
    assert len(load_simplified(*sphere(), Detail(), tmp_path / "file" / "meshes").triangles) > 1000


# ---------------------------------------------------------------- cameras


def test_a_camera_looks_along_x_with_z_up():
    eye, target = np.array([1.0, 2.0, 3.0]), np.array([1.5, 1.0, 2.0])
    pose = look_at(eye.tolist(), target.tolist())
    forward, left, up = (poses.rotate(pose[3:], axis) for axis in np.eye(3))
    assert np.allclose(forward, (target - eye) / 1.5)
    assert abs(left[2]) < 1e-12
    assert up[2] > 0


def test_an_unknown_camera_is_corrected():
    with pytest.raises(UnknownNameError, match="unknown camera 'frnt': did you mean 'front'"):
        rendering.default_camera("frnt")


# ---------------------------------------------------------------- images


@render
def test_the_same_state_gives_the_same_bytes(cube):
    cube.prepare(3)
    first = cube.render(CAMERAS, SIZE)
    assert first.shape == (3, SIZE, SIZE, 3)
    assert first.dtype == np.uint8
    # Whatever was looked at in between must leave no trace.
    cube.prepare(4)
    bend(cube, 1, 0.3)
    other = cube.render(CAMERAS[::-1], 96)
    assert other.shape == (3, 96, 96, 3)
    cube.prepare(3)
    assert np.array_equal(cube.render(CAMERAS, SIZE), first)
    assert np.array_equal(cube.render(CAMERAS[1:2], SIZE)[0], first[1])
    bend(cube, 1, 0.3)
    assert (difference(cube.render(CAMERAS, SIZE), first) > 1).all()


@render
def test_no_camera_is_no_image(cube):
    assert cube.render([], 32).shape == (0, 32, 32, 3)


@render
@pytest.mark.parametrize("view", VIEWS)
def test_a_camera_that_moves_sees_something_else(cube, view):
    cube.prepare(0)
    camera = rendering.default_camera(view)
    moved = poses.apply_delta(np.array(camera.pose), np.array([0.03, 0.03, 0, 0, 0, 0]))
    wider = Camera(view, camera.pose, fov=camera.fov + 0.2, mounted=camera.mounted)
    elsewhere = Camera(view, tuple(moved.tolist()), camera.fov, camera.mounted)
    still, shifted, wide = cube.render([camera, elsewhere, wider], SIZE)
    assert difference(still, shifted) > 1
    assert difference(still, wide) > 1


def green_centre(image):
    """Row and column, in [-1, 1], of the middle of what is purely green: the goal of PickCube."""
    red, green, blue = np.moveaxis(image.astype(int), -1, 0)
    rows, columns = np.nonzero((green > 60) & (red < 20) & (blue < 20))
    assert len(rows) > 20, "the goal is not in the image"
    return (rows.mean() + 0.5) * 2 / SIZE - 1, (columns.mean() + 0.5) * 2 / SIZE - 1


def place_goal(renderer, position):
    import sapien

    base = articulation(renderer).pose
    renderer.env.goal_site._objs[0].pose = base * sapien.Pose(position)


@render
def test_a_fixed_camera_stands_in_the_base_frame(cube):
    cube.prepare(0)
    # By hand: 1 m ahead half of the image is 1 m, so 0.2 m to the left is a fifth of it, 0.1 m up a tenth.
    place_goal(cube, [1.5, 0.2, 0.6])
    camera = Camera("test", (0.5, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0), fov=np.pi / 2)
    row, column = green_centre(cube.render([camera], SIZE)[0])
    assert row == pytest.approx(-0.1, abs=0.02)
    assert column == pytest.approx(-0.2, abs=0.02)


@render
def test_a_mounted_camera_moves_with_the_tool(cube):
    cube.prepare(0)
    hand = rendering.default_camera("hand")
    tool = cube.env.agent.tcp._objs[0]

    def render_goal():
        tip = articulation(cube).pose.inv() * tool.entity_pose
        place_goal(cube, tip.to_transformation_matrix()[:3, :3] @ [0.05, 0.0, 0.05] + tip.p)
        return cube.render([hand], SIZE)[0]

    row, column = green_centre(render_goal())
    bend(cube, 0, 0.5)
    bend(cube, 3, 0.3)
    moved_row, moved_column = green_centre(render_goal())
    assert abs(column) < 0.02  # in the plane between the fingers
    # What stands still in the tool's frame stands still in the image, and only there.
    assert (moved_row, moved_column) == pytest.approx((row, column), abs=0.01)
    before = cube.render([hand, CAMERAS[0]], SIZE)
    bend(cube, 0, 0.2)
    assert (difference(cube.render([hand, CAMERAS[0]], SIZE), before) > 1).all()


@render
def test_goals_can_be_hidden(cube):
    cube.prepare(1)
    hidden = rendering.SceneRenderer("PickCube-v1", show_goals=False)
    try:
        for _ in range(2):  # at first and after another reset
            hidden.prepare(1)
            green_centre(cube.render(CAMERAS, SIZE)[0])
            with pytest.raises(AssertionError, match="not in the image"):
                green_centre(hidden.render(CAMERAS, SIZE)[0])
    finally:
        hidden.close()


@render
@pytest.mark.parametrize(
    "task",
    [
        "PickCube-v1",
        pytest.param("StackCube-v1", marks=pytest.mark.slow),
        pytest.param("PegInsertionSide-v1", marks=pytest.mark.slow),
    ],
)
def test_lighter_meshes_look_the_same(task):
    light, full = rendering.SceneRenderer(task), rendering.SceneRenderer(task, full_meshes=True)
    try:
        assert triangles(light) * 7 < triangles(full)
        random = np.random.default_rng(0)
        for seed in range(4):
            bends = random.uniform(-0.4, 0.4, 7)
            for renderer in (light, full):
                renderer.prepare(seed)
                for joint, radians in enumerate(bends):
                    bend(renderer, joint, radians)
            images = light.render(CAMERAS, SIZE), full.render(CAMERAS, SIZE)
            assert (difference(*images) < 1.5).all()
            assert (difference(*images) > 0).any()  # else nothing was made lighter
    finally:
        light.close()
        full.close()


@render
def test_a_robot_without_its_meshes_would_be_noticed(cube):
    """The bound of the test above, 1.5 of 255, is small against what the robot does to an image."""
    import sapien

    cube.prepare(0)
    images = cube.render(CAMERAS, SIZE)
    bodies = [e.find_component_by_type(sapien.render.RenderBodyComponent) for e in cube._link_entities()]
    try:
        for body in filter(None, bodies):
            body.visibility = 0
        assert (difference(cube.render(CAMERAS, SIZE), images) > 5).all()
    finally:
        for body in filter(None, bodies):
            body.visibility = 1


def triangles(renderer):
    import sapien

    bodies = [e.find_component_by_type(sapien.render.RenderBodyComponent) for e in renderer._link_entities()]
    return sum(len(p.triangles) for b in bodies if b is not None for s in b.render_shapes for p in s.parts)


@render
@pytest.mark.slow
def test_shapes_that_depend_on_the_seed_are_rebuilt():
    renderer = rendering.SceneRenderer("PegInsertionSide-v1")
    try:
        images, sizes = [], []
        for seed in (1, 2, 1):
            renderer.prepare(seed)
            images.append(renderer.render(CAMERAS, SIZE))
            sizes.append(renderer.env.peg_half_sizes.numpy().copy())
            assert triangles(renderer) < 20_000  # lighter again after each rebuild
        assert not np.allclose(sizes[0], sizes[1])
        assert not np.array_equal(images[0], images[1])
        assert np.array_equal(images[0], images[2])
    finally:
        renderer.close()


@render
def test_several_tasks_can_be_looked_at_in_turn(cube):
    cube.prepare(2)
    before = cube.render(CAMERAS, SIZE)
    other = rendering.SceneRenderer("PushCube-v1")
    try:
        other.prepare(2)
        first = other.render(CAMERAS, SIZE)
        assert np.array_equal(cube.render(CAMERAS, SIZE), before)
        assert np.array_equal(other.render(CAMERAS, SIZE), first)
        assert (difference(first, before) > 0.3).any()
    finally:
        other.close()
    assert np.array_equal(cube.render(CAMERAS, SIZE), before)


# ---------------------------------------------------------------- machines that cannot


def test_no_vulkan_driver_is_one_sentence():
    code = (
        "from failsafe.errors import MissingRendererError\n"
        "from failsafe.simulators.maniskill.rendering import SceneRenderer\n"
        "try:\n    SceneRenderer('PickCube-v1')\n"
        "except MissingRendererError as error:\n    print(error)\n"
    )
    environment = os.environ | {"VK_ICD_FILENAMES": "/nonexistent", "VK_DRIVER_FILES": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    message = done.stdout.strip().splitlines()[-1]
    assert "Vulkan driver" in message
    assert message.endswith("run `failsafe doctor` for the command that installs it")


def test_a_gpu_that_cannot_render_leaves_it_to_the_cpu(monkeypatch):
    opened = []
    monkeypatch.setattr(rendering.sapien, "Device", lambda name: name)
    monkeypatch.setattr(rendering.sapien.render, "RenderSystem", opened.append)
    monkeypatch.setattr(rendering, "_CUDA_PROBE", "import os; os.abort()")
    assert rendering.rendering_device.__wrapped__() == "cpu"
    assert opened == ["cpu"]
    monkeypatch.setattr(rendering, "_CUDA_PROBE", "")
    assert rendering.rendering_device.__wrapped__() == "cuda"


def test_nothing_that_renders_is_reported(monkeypatch):
    def fail(device):
        raise RuntimeError("failed to find a rendering device")

    monkeypatch.setattr(rendering, "_cuda_renders", lambda: False)
    monkeypatch.setattr(rendering.sapien.render, "RenderSystem", fail)
    with pytest.raises(MissingRendererError, match="failed to find a rendering device"):
        rendering.rendering_device.__wrapped__()
