"""Reference policies on the toy: demonstrations, training by imitation, checkpoints, the policy itself."""

import hashlib
import os
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from failsafe.errors import PolicyError, RecordError, UnknownNameError, UserError
from failsafe.execution.serial import SerialExecutor
from failsafe.experts.tasks import load_task
from failsafe.generation.demonstrations import DemonstrationJob
from failsafe.generation.nominal import run_nominal
from failsafe.models.camera_geometry import project
from failsafe.models.image_encoder import word_codes
from failsafe.models.version_1 import NORMALIZATION
from failsafe.models.weights import save_weights
from failsafe.policies.conformance import check_policy, observe
from failsafe.policies.loading import load_policy
from failsafe.policies.reference import (
    FORMAT,
    METRES,
    ReferenceMeta,
    ReferencePolicy,
    load_reference,
    proprioception,
    reference_orientation,
    save_reference,
    stack_views,
    to_numbers,
    to_target,
)
from failsafe.policies.reference_net import (
    Keyframes,
    ReferenceConfig,
    ReferenceNet,
    TeacherForcing,
    likeliest_turn,
    turn_shares,
)
from failsafe.records import codec, poses
from failsafe.records.trace import Trace
from failsafe.samples.demonstrate import build_demonstrations
from failsafe.samples.demonstrations import DemonstrationConfig, DemonstrationManifest, DemonstrationSet
from failsafe.samples.targets import chunk_targets, find_keyframes
from failsafe.simulators.toy import ToyPush
from failsafe.training.allocation import keep_freed_memory
from failsafe.training.imitation import ImitationTraining, imitation_loss, keyframe_loss, train_reference
from failsafe.training.imitation_batches import batches

CONFIG = DemonstrationConfig(("ToyPush-v0",), 3, first_seed=50, views=("front", "hand"), size=32, stride=6)
WORDS = ToyPush().episode.instruction


def record(config, out, tell=lambda done, total: None):
    return build_demonstrations(config, out, SerialExecutor(), tell)


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", "manifest.json")
    }


@pytest.fixture(scope="module")
def stacked(tmp_path_factory):
    """Demonstrations in which the gripper closes and opens."""
    out = tmp_path_factory.mktemp("stacked") / "data"
    record(replace(CONFIG, tasks=("ToyStack-v0",), episodes=2, stride=2), out)
    return DemonstrationSet(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "demonstrations"
    told = []
    assert record(CONFIG, out, lambda *done: told.append(done)) == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
    return out


@pytest.fixture(scope="module")
def data(folder):
    return DemonstrationSet(folder)


# ------------------------------------------------------------------ demonstrations


def test_chunks_are_where_the_commands_lead_from_the_tool(data):
    nominal = run_nominal(load_task("ToyPush-v0"), 50)
    trace, chunk = nominal.trace, 5
    for step in (0, 7, len(trace) - 2):
        here = trace.tcp_poses[step].astype(np.float64)
        for ahead, row in enumerate(chunk_targets(trace, step, chunk).astype(np.float64)):
            last = min(step + ahead, len(trace) - 1)  # beyond the end the last command stays
            led = poses.apply_delta(here, row[:6])
            assert max(poses.distance(led, trace.targets[last].astype(np.float64))) < 1e-6
            assert row[6] == trace.gripper_commands[last]
    # Cut in the middle of a movement: what is beyond is not known, and the last command is that of step 8.
    cut = {"tcp_poses": 10, "gripper_widths": 10, "objects": 10, "states": 10}
    short = Trace(**{f.name: getattr(trace, f.name)[: cut.get(f.name, 9)] for f in fields(Trace)})
    np.testing.assert_array_equal(chunk_targets(short, 7, 2), chunk_targets(trace, 7, 2))
    assert not np.array_equal(trace.targets[7], trace.targets[8])
    np.testing.assert_array_equal(chunk_targets(short, 7, 4)[1:], chunk_targets(trace, 7, 2)[[1, 1, 1]])
    of_50 = [i for i, seed in enumerate(data.seeds) if seed == 50]
    assert len(of_50) == len(range(0, len(trace), 6))
    np.testing.assert_array_equal(data.actions[of_50[2]], chunk_targets(trace, 12, 8))
    np.testing.assert_array_equal(data.tcp_poses[of_50[2]], trace.tcp_poses[12])
    assert data.gripper_widths[of_50[2]] == trace.gripper_widths[12]


def test_pictures_are_of_their_moments(data):
    simulator = ToyPush()
    trace = run_nominal(load_task("ToyPush-v0"), 50).trace
    simulator.reset(50)
    simulator.restore(trace.states[12])
    cameras = [simulator.camera(view) for view in ("front", "hand")]
    np.testing.assert_array_equal(data.frames(data.seeds.index(50) + 2), simulator.render(cameras, 32))


def test_keyframes_are_where_the_gripper_changes_and_where_it_ends():
    gripper = np.array([1, 1, 1, -1, -1, 1, 1, 1], dtype=np.float32)
    at_once = find_keyframes(gripper, 0.01 * gripper)
    assert at_once.rows.tolist() == [3, 5, 7]
    assert at_once.following.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert not at_once.commanded.any()
    # Fingers that are slow: each is the next one until they have gone half of their way.
    slow = find_keyframes(gripper, np.array([8, 8, 8, 7, 5, 4, 4, 8], dtype=np.float32))
    assert slow.rows.tolist() == [3, 5, 7]
    assert slow.following.tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
    assert slow.commanded.tolist() == [False, False, False, True, False, True, True, False]
    still = find_keyframes(-np.ones(8, dtype=np.float32), np.ones(8, dtype=np.float32))
    assert still.rows.tolist() == [7]
    assert not still.following.any()
    assert not still.commanded.any()


def test_keyframes_of_a_set_are_of_their_own_episode(stacked, data):
    for seed in sorted(set(stacked.seeds)):
        of_it = [i for i, found in enumerate(stacked.seeds) if found == seed]
        there = find_keyframes(stacked.actions[of_it, 0, 6], stacked.gripper_widths[of_it])
        assert len(there.rows) == 3  # it grasps, lets go, and ends
        for index in of_it:
            np.testing.assert_array_equal(stacked.keyframes[index], stacked.tcp_poses[of_it][there.rows])
        np.testing.assert_array_equal(stacked.following[of_it], there.following)
        np.testing.assert_array_equal(stacked.at_keyframe[of_it], there.commanded)
        assert there.following[0] == 0
        assert there.following[-1] == 2
    assert data.keyframes.shape[1] == 1  # one whose gripper never changes has its end alone


def test_one_with_fewer_keyframes_than_another_ends_again(tmp_path):
    record(replace(CONFIG, tasks=("ToyPush-v0", "ToyStack-v0"), episodes=1), tmp_path / "both")
    both = DemonstrationSet(tmp_path / "both")
    push = [i for i, task in enumerate(both.tasks) if task == "ToyPush-v0"]
    np.testing.assert_array_equal(both.keyframes[push[0]], both.tcp_poses[[push[-1]] * 3])
    assert both.following[push].max() == 0
    assert both.following.max() == 2


def test_a_set_knows_what_it_is(data):
    assert data.manifest.config == CONFIG
    assert data.manifest.instructions == {"ToyPush-v0": WORDS}
    assert data.manifest.cameras == {"ToyPush-v0": tuple(ToyPush().camera(v) for v in ("front", "hand"))}
    assert data.manifest.control_hz == ToyPush().spec.embodiment.control_hz
    assert len(set(data.seeds)) == 3
    assert set(data.tasks) == {"ToyPush-v0"}
    assert len(data) == len(data.tasks) == len(data.seeds) == len(data.actions)
    first = DemonstrationSet(data.path, 1)
    assert set(first.seeds) == {50}
    assert len(first) == data.seeds.count(50)
    with pytest.raises(UserError, match="expected 4 demonstrations of ToyPush-v0"):
        DemonstrationSet(data.path, 4)
    with pytest.raises(UserError, match="made by `failsafe demonstrate`"):
        DemonstrationSet(data.path / "nothing")


def test_a_run_that_was_killed_goes_on_where_it_was(folder, tmp_path):
    class Killed(BaseException):
        pass

    def die(done, total):
        if done == 2:
            raise Killed

    out = tmp_path / "demonstrations"
    with pytest.raises(Killed):
        record(CONFIG, out, die)
    begun = codec.loads(DemonstrationManifest, (out / "manifest.json").read_text())
    manifest = codec.dumps(replace(begun, provenance=replace(begun.provenance, commit="an older one")))
    (out / "manifest.json").write_text(manifest)
    done = sorted(out.glob("*/*.npz"))
    assert len(done) == 2
    # The second died after its images and before its numbers, in the middle of writing.
    done[1].rename(done[1].with_name(f".{done[1].name}.1.partial"))
    done[1].with_suffix(".npy").write_bytes(b"half")
    before = done[0].stat().st_mtime_ns
    assert record(CONFIG, out) == 3
    assert done[0].stat().st_mtime_ns == before
    made = {name: found for name, found in contents(out).items() if ".partial" not in name}
    assert made == contents(folder)
    assert (out / "manifest.json").read_text() == manifest, "it is still the run that began it"


def test_a_run_that_was_killed_before_it_began_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / ".lock").touch()
    (tmp_path / ".manifest.json.1.partial").touch()
    monkeypatch.setattr(DemonstrationJob, "_record", lambda *_: True)
    assert record(CONFIG, tmp_path) == 3


def test_seeds_that_the_expert_fails_on_are_left_out(tmp_path, monkeypatch):
    tried = []

    def one(job, item):
        tried.append(item.seed)
        return item.seed not in (50, 52)

    monkeypatch.setattr(DemonstrationJob, "_record", one)
    record(CONFIG, tmp_path / "a")
    assert tried == [50, 51, 52, 53, 54]
    monkeypatch.setattr(DemonstrationJob, "_record", lambda *_: False)
    with pytest.raises(UserError, match="expected 3 successful episodes of ToyPush-v0, got 0 from 26 seeds"):
        record(CONFIG, tmp_path / "b")


def test_other_settings_and_other_folders_are_refused(folder, tmp_path):
    before = contents(folder)
    with pytest.raises(UserError, match="made with other settings: choose another folder"):
        record(replace(CONFIG, stride=3), folder)
    assert contents(folder) == before
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="with other files"):
        record(CONFIG, tmp_path)


@pytest.mark.parametrize(
    "changes", [{"tasks": ()}, {"episodes": 0}, {"stride": 0}, {"chunk": 0}, {"size": 8}]
)
def test_settings_that_make_no_sense(changes):
    with pytest.raises(UserError, match="expected"):
        replace(CONFIG, **changes)


# ------------------------------------------------------------------ training


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "policy.safetensors"
    losses = []
    settings = ImitationTraining(steps=150, batch=12, rate=3e-3, average=0.9)
    threads, os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS"), "1"
    try:
        assert train_reference(data, settings, out, lambda *said: losses.append(said)) == out
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
    return load_reference(str(out)), losses


def mean_error(policy, data):
    """Metres between where the policy would lead the tool and where the expert led it."""
    errors = []
    policy.reset(WORDS)
    for i in range(0, len(data), 3):
        here = data.tcp_poses[i].astype(np.float64)
        seen = replace(
            observe(policy, 0),
            images=dict(zip(CONFIG.views, data.frames(i), strict=True)),
            tcp_pose=here,
            target_pose=here,
            gripper_width=float(data.gripper_widths[i]),
        )
        end = here
        for row in policy.act(seen):
            end = poses.apply_delta(end, row[:6])
        wanted = poses.apply_delta(here, data.actions[i, -1, :6].astype(np.float64))
        errors.append(poses.distance(end, wanted)[0])
    return float(np.mean(errors))


def test_imitation_improves(data, trained):
    policy, losses = trained
    assert [step for step, _ in losses] == [100, 150]
    torch.manual_seed(0)
    untrained = ReferencePolicy(ReferenceNet(policy.meta.config), policy.meta)
    assert losses[1][1] < 0.6 * losses[0][1]
    # Standing still would be off by as much as the expert moves within a chunk.
    still = float(np.linalg.norm(data.actions[::3, -1, :3], axis=1).mean())
    assert mean_error(policy, data) < 0.6 * min(still, mean_error(untrained, data))


def test_what_stands_beside_the_weights(trained, data):
    meta = trained[0].meta
    assert meta.train_seeds == {"ToyPush-v0": (50, 51, 52)}
    assert meta.demonstrations == 3
    assert (meta.config.views, meta.config.size, meta.config.chunk) == (("front", "hand"), 32, 8)
    assert meta.config.instructions == (WORDS,)
    assert meta.config.rate_hz == ToyPush().spec.embodiment.control_hz
    for where, led in zip(meta.config.reach, targets_of(data), strict=True):
        np.testing.assert_allclose(where, led, atol=6e-4)


def targets_of(data):
    """Lowest and highest place that the demonstrations lead the tool to, told by replaying their deltas."""
    places = [
        poses.apply_delta(pose.astype(np.float64), row[:6].astype(np.float64))[:3]
        for pose, rows in zip(data.tcp_poses, data.actions, strict=True)
        for row in rows
    ]
    return np.min(places, axis=0), np.max(places, axis=0)


def test_the_loss_is_zero_only_for_what_was_done():
    wanted = torch.tensor([[[0.1, 0.2, 0.3, 0.0, 0.0, 0.1, 1.0]]])
    said = wanted.clone()
    said[..., 6] = 30.0
    assert float(imitation_loss(said, wanted)) < 1e-6
    off = said.clone()
    off[..., 0] += 0.5
    shut = said.clone()
    shut[..., 6] = -30.0
    # Smooth L1 beyond beta is |d| - beta / 2, here of one number of six; a wrong gripper costs its logit.
    assert float(imitation_loss(off, wanted)) == pytest.approx(5 * 0.475 / 6)
    assert float(imitation_loss(shut, wanted)) == pytest.approx(15.0)


def test_pictures_move_as_their_keyframes_do(data, monkeypatch):
    """A white dot where a keyframe is in the image is still there once the image has been moved."""
    manifest = data.manifest
    cameras = torch.tensor([[[*c.pose, c.fov, c.mounted] for c in manifest.cameras["ToyPush-v0"]]])
    size = 32

    def dotted(index):
        found, inside = project(
            cameras,
            torch.from_numpy(data.tcp_poses[[index]]),
            torch.from_numpy(data.keyframes[[index], :, :3]),
        )
        frames = np.zeros((2, size, size, 3), dtype=np.uint8)
        for view in range(2):
            if inside[0, view, 0]:
                column, row = ((found[0, view, 0] + 1) / 2 * size).long().clamp(max=size - 1).tolist()
                frames[view, row, column] = 255
        return frames

    monkeypatch.setattr(data, "frames", dotted)
    batch = next(batches(data, NORMALIZATION, ImitationTraining(batch=len(data), shift=5)))
    pixels, inside = project(batch.cameras, batch.tcp_poses, batch.keyframes)
    there = (pixels + batch.teacher.moved[:, :, None])[:, :, 0]
    seen = inside[:, :, 0] & (there.abs() < 1).all(-1)
    assert seen.sum() > len(data) / 2
    assert batch.teacher.moved.abs().amax() > 0.2
    for sample, view in seen.nonzero().tolist():
        bright = (batch.frames[sample, view].sum(0) > 0).nonzero()[0].flip(0)
        place = (bright.float() + 0.5) / size * 2 - 1
        assert float((place - there[sample, view]).abs().max()) <= 1.05 / size


def test_the_loss_of_keyframes_is_zero_only_where_they_are(stacked):
    batch = next(batches(stacked, NORMALIZATION, ImitationTraining(batch=len(stacked), shift=2)))
    pixels, inside = project(batch.cameras, batch.tcp_poses, batch.keyframes)
    places = torch.from_numpy(
        NORMALIZATION.position(batch.keyframes.numpy().astype(np.float64)).astype(np.float32)
    )
    turns = (turn_shares(batch.teacher.turns) + 1e-12).log()
    following = batch.teacher.following
    sure = 40.0 * torch.nn.functional.one_hot(following, 3).float()
    right = Keyframes(places, pixels + batch.teacher.moved[:, :, None], sure, turns)
    assert float(keyframe_loss(right, batch)) < 1e-5
    # Of 4 mm in one direction of three; smooth L1 beyond beta is |d| - beta / 2.
    off = right._replace(places=places + torch.tensor([0.2, 0.0, 0.0]))
    assert float(keyframe_loss(off, batch)) == pytest.approx(5 * (0.2 - 0.01) / 3, rel=1e-3)
    # Of a tenth of half an image along its columns, where it is in the image; elsewhere nothing is asked.
    aside = right._replace(pixels=right.pixels + torch.tensor([0.1, 0.0]))
    assert float(keyframe_loss(aside, batch)) == pytest.approx(5 * (0.1 - 0.005), rel=1e-3)
    hidden = right._replace(pixels=torch.where(inside[..., None], right.pixels, 9.0))
    assert float(keyframe_loss(hidden, batch)) < 1e-5
    # What is past is asked for no longer.
    past = (torch.arange(3) < following[:, None])[..., None]
    assert past.any()
    forgotten = right._replace(
        places=torch.where(past, 9.0, places), pixels=torch.where(past[:, None], 9.0, right.pixels)
    )
    assert float(keyframe_loss(forgotten, batch)) < 1e-5
    # Another is taken for the next; turned by a whole direction.
    assert float(keyframe_loss(right._replace(following=sure.roll(1, 1)), batch)) > 3.0
    assert float(keyframe_loss(right._replace(turns=turns.roll(2, 1)), batch)) > 3.0


def test_turns_are_shares_of_directions_and_come_back():
    turns = torch.linspace(-7.0, 7.0, 400)
    shares = turn_shares(turns)
    assert torch.allclose(shares.sum(1), torch.ones(400), atol=1e-5)
    assert int((shares > 1e-4).sum(1).max()) == 2
    off = torch.remainder(likeliest_turn((shares + 1e-9).log()) - turns + torch.pi, 2 * torch.pi) - torch.pi
    assert float(off.abs().max()) < 1e-4


def test_of_two_turns_that_are_both_right_one_is_taken():
    both = 0.51 * turn_shares(torch.tensor([0.8])) + 0.49 * turn_shares(torch.tensor([-0.8]))
    assert float(likeliest_turn(both.log())) == pytest.approx(0.8, abs=1e-3)


def test_one_that_says_keyframes_learns_them_and_goes_by_them(stacked, tmp_path):
    settings = ImitationTraining(steps=200, batch=24, rate=3e-3, average=0.9, keyframes=True, shift=1)
    path = train_reference(stacked, settings, tmp_path / "foresight.safetensors", lambda *_: None)
    policy = load_reference(str(path))
    assert policy.meta.config.keyframes == 3
    (instruction,) = policy.meta.config.instructions
    assert check_policy(policy, instruction)
    torch.manual_seed(0)
    untrained = ReferencePolicy(ReferenceNet(policy.meta.config), policy.meta)
    some = list(range(0, len(stacked), 2))
    frames = stack_views(np.stack([stacked.frames(i) for i in some]))
    felt = torch.from_numpy(np.stack([policy_input(stacked, i) for i in some]))
    words = torch.from_numpy(word_codes(instruction))[None].expand(len(some), -1)
    places = torch.from_numpy(NORMALIZATION.position(stacked.keyframes[some, :, :3])).float()
    following = torch.from_numpy(stacked.following[some])
    to_come = torch.arange(3) >= following[:, None]
    with torch.inference_mode():
        said = policy.net(frames, felt, words)[1]
        before = untrained.net(frames, felt, words)[1]
        off = [(k.places - places).abs().mean(-1)[to_come].mean() for k in (said, before)]
        assert off[0] < 0.3 * off[1]
        assert float((said.following.argmax(1) == following).float().mean()) > 0.9
        # It goes by what it is told of the keyframes: told of others, it goes elsewhere, whatever it sees.
        told = TeacherForcing(torch.zeros(len(felt), 2, 2), places, following, torch.zeros(len(felt)), felt)
        there, _ = policy.net(frames, felt, words, told)
        blind, _ = policy.net(torch.zeros_like(frames), felt, words, told)
        assert torch.equal(there, blind)
        away, _ = policy.net(frames, felt, words, told._replace(places=places + 0.5))
        assert float((away - there)[..., :3].mean()) > 0.05
        # By the next one and the one after that, not by those that are past.
        forgotten = told._replace(places=torch.where(to_come[..., None], places, 9.0))
        assert torch.equal(there, policy.net(frames, felt, words, forgotten)[0])
        # By itself it goes by the likeliest, and by what it says of that.
        own = told._replace(
            places=said.places, following=said.following.argmax(1), turns=likeliest_turn(said.turns)
        )
        alone = policy.net(frames, felt, words)[0]
        np.testing.assert_allclose(alone, policy.net(frames, felt, words, own)[0], atol=1e-5)
        # What it is told of how far images were moved is taken off again.
        given = []
        with policy.net.places.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0])):
            for columns in (0.0, 0.1):
                moved = torch.tensor([columns, 0.0]).expand(len(felt), 2, 2)
                policy.net(frames, felt, words, told._replace(moved=moved))
        less = (given[0] - given[1])[:, :12].unflatten(1, (2, 3, 2))
        assert torch.allclose(less, torch.tensor([0.1, 0.0]).expand_as(less), atol=1e-6)
        assert torch.equal(given[0][:, 12:], given[1][:, 12:])


def test_a_tool_taken_to_be_elsewhere_is_led_to_the_same_poses(stacked):
    near = next(batches(stacked, NORMALIZATION, ImitationTraining(batch=len(stacked), shift=0)))
    far = next(
        batches(stacked, NORMALIZATION, ImitationTraining(batch=len(stacked), shift=0, keyframes=True))
    )
    assert torch.equal(near.proprioception, near.teacher.proprioception)
    order = np.random.default_rng(0).permutation(len(stacked))
    felt = torch.from_numpy(np.stack([policy_input(stacked, i) for i in order]))
    beside = (far.teacher.proprioception - felt)[:, :3] / NORMALIZATION.position_scale
    back = (near.actions - far.actions)[..., :3] * METRES
    np.testing.assert_allclose(back, beside[:, None].expand_as(back), atol=1e-5)
    np.testing.assert_array_equal(far.actions[..., 3:], near.actions[..., 3:])
    # Both axes turn about the vertical together.
    first, third = far.teacher.proprioception[:, 3:6], far.teacher.proprioception[:, 6:9]
    np.testing.assert_allclose(
        (first * third).sum(1), (far.proprioception[:, 3:6] * far.proprioception[:, 6:9]).sum(1), atol=1e-5
    )
    turned = torch.atan2(first[:, 1], first[:, 0]) - torch.atan2(
        far.proprioception[:, 4], far.proprioception[:, 3]
    )
    turned = torch.remainder(turned + torch.pi, 2 * torch.pi) - torch.pi
    # Where the gripper changes in the chunk, or was told to and has not, it is hardly moved.
    still = (stacked.actions[order, :, 6] != stacked.actions[order, :1, 6]).any(1) | stacked.at_keyframe[
        order
    ]
    assert stacked.at_keyframe.any()
    assert 0 < still.sum() < len(still)
    assert float(beside[still].abs().max()) < 0.01 < float(beside[~still].abs().max())
    assert float(turned[still].abs().max()) < 0.1 < float(turned[~still].abs().max())


def policy_input(data, index):
    return proprioception(
        data.tcp_poses[index].astype(np.float64), float(data.gripper_widths[index]), NORMALIZATION
    )


@pytest.mark.parametrize(
    ("settings", "name", "words"),
    [
        ({"batch": 100_000}, "a.safetensors", "expected at least 100000 samples"),
        ({"batch": 4}, "there.safetensors", "which exists; choose another one"),
        ({"batch": 4}, "policy.pt", "ending .safetensors"),
    ],
)
def test_what_cannot_be_trained_is_said_before(data, tmp_path, settings, name, words):
    (tmp_path / "there.safetensors").touch()
    with pytest.raises(UserError, match=words):
        train_reference(data, ImitationTraining(**settings), tmp_path / name, lambda *_: None)


@pytest.mark.parametrize("changes", [{"steps": 0}, {"batch": 0}, {"demonstrations": -1}, {"shift": -1}])
def test_trainings_that_make_no_sense(changes):
    with pytest.raises(UserError, match=r"expected at least 0 demonstrations|by 0 pixels or more, got -1"):
        ImitationTraining(**changes)


def test_memory_is_kept_where_that_can_be_asked_for(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert keep_freed_memory() is False


# ------------------------------------------------------------------ checkpoints


REACH = ((-0.3, -0.4, 0.0), (0.4, 0.3, 0.5))
TINY = ReferenceConfig(
    ("front", "hand"), 32, 4, 20.0, ("push the box", "lift it"), REACH, NORMALIZATION, (4, 4, 8, 8), 16
)
META = ReferenceMeta(TINY, 3, {"ToyPush-v0": (50, 51)}, {"commit": "abc"})


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return ReferencePolicy(ReferenceNet(TINY), META, "tiny")


def test_a_checkpoint_comes_back(tiny, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_reference(path, tiny.net, META)
    again = load_policy(f"reference:{path}")
    assert (again.name, again.meta) == ("reference tiny", META)
    own, theirs = tiny.net.state_dict(), again.net.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.allclose(own[name], theirs[name], atol=1e-3) for name in own)  # in half precision
    save_reference(tmp_path / "again.safetensors", again.net, again.meta)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


class Trap:
    """Pickled code that would run."""

    def __reduce__(self):
        return (os.mkdir, ("trapped",))


def test_foreign_files_are_refused_and_nothing_is_unpickled(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "policy.safetensors"
    for data in (pickle.dumps(Trap()), b"", b"\x00" * 100):
        path.write_bytes(data)
        with pytest.raises(RecordError, match="expected a safetensors file"):
            load_reference(str(path))
    torch.save({"net": Trap()}, path)
    with pytest.raises(RecordError, match="expected a safetensors file"):
        load_reference(str(path))
    assert not (tmp_path / "trapped").exists()
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(
        RecordError, match="expected a checkpoint of format 'failsafe-reference/3', got 'none'"
    ):
        load_reference(str(path))
    save_weights(path, "failsafe-compact/1", tiny.net, "{}")
    with pytest.raises(RecordError, match="got 'failsafe-compact/1'"):
        load_reference(str(path))
    save_weights(path, FORMAT, torch.nn.Linear(3, 3), codec.dumps(META))
    with pytest.raises(RecordError, match="the weights are not those"):
        load_reference(str(path))


def test_names_that_are_none():
    with pytest.raises(UnknownNameError, match="'medum': did you mean 'medium'"):
        load_reference("medum")
    with pytest.raises(UserError, match="which does not exist"):
        load_reference("nowhere.safetensors")


# ------------------------------------------------------------------ the policy


def test_it_conforms(tiny):
    checks = check_policy(tiny, "push the box")
    assert [check for check in checks if not check.passed] == []


def test_it_refuses_what_it_was_not_taught(tiny):
    with pytest.raises(PolicyError, match="expected one of push the box, lift it; got 'sing'"):
        tiny.reset("sing")


def test_it_wants_a_reset_and_pictures_of_its_size(tiny):
    fresh = ReferencePolicy(tiny.net, META, "fresh")
    seen = observe(fresh, 0)
    with pytest.raises(PolicyError, match="expected reset"):
        fresh.act(seen)
    fresh.reset("push the box")
    larger = {view: np.zeros((48, 48, 3), dtype=np.uint8) for view in TINY.views}
    with pytest.raises(PolicyError, match="expected images of 32 px"):
        fresh.act(replace(seen, images=larger))


def test_rows_add_up_to_where_the_network_says(tiny, monkeypatch):
    """Places are said from the measured one, turns from pointing down; steps go on from the last target."""
    said = torch.zeros(1, 4, 7)
    said[0, :, 0] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    said[0, :, 5] = 0.2
    said[0, :, 6] = torch.tensor([3.0, 3.0, -3.0, -3.0])

    policy = ReferencePolicy(ReferenceNet(TINY), META, "fixed")
    monkeypatch.setattr(policy.net, "forward", lambda *_: (said, None))
    policy.reset("push the box")
    seen = observe(policy, 1)
    at = seen.target_pose
    for i, row in enumerate(policy.act(seen)):
        at, gripper = policy.action_space.to_pose(row, at, seen.tcp_pose)
        down = poses.pose(seen.tcp_pose[:3], [0.0, 1.0, 0.0, 0.0])
        wanted = poses.apply_delta(down, [0.01 * (i + 1), 0, 0, 0, 0, 0.1])
        assert max(poses.distance(at, wanted)) < 1e-6
        assert gripper == (1.0 if i < 2 else -1.0)


def test_it_leads_the_tool_nowhere_where_no_demonstration_was(tiny, monkeypatch):
    policy = ReferencePolicy(ReferenceNet(TINY), META, "far")
    policy.reset("push the box")
    seen = observe(policy, 1)
    for sign, edge in zip((-1.0, 1.0), REACH, strict=True):
        far = (torch.full((1, 4, 7), 20.0 * sign), None)
        monkeypatch.setattr(policy.net, "forward", lambda *_, far=far: far)
        at = seen.target_pose
        for row in policy.act(seen):
            at, _ = policy.action_space.to_pose(row, at, seen.tcp_pose)
            np.testing.assert_allclose(at[:3], edge, atol=1e-9)


def test_a_tool_half_a_turn_from_another_has_rotations_that_a_network_can_learn():
    """Meta-World's tool points down half a turn from ManiSkill's: +pi and -pi would average to nothing."""
    tool = poses.pose([0.0, 0.6, 0.2], [0.0, 0.0, 1.0, 0.0])
    turned = np.stack([poses.apply_delta(tool, [0, 0, 0, 0.02, -0.01, yaw]) for yaw in (-0.4, 0.0, 0.4)])
    orientation = reference_orientation(turned)
    assert orientation == (0.0, 0.0, 1.0, 0.0)
    assert reference_orientation(np.stack([poses.pose([0.6, 0, 0.2], [0, 1, 0.1, 0])])) == (
        0.0,
        1.0,
        0.0,
        0.0,
    )
    for yaw in (-1e-7, 1e-7):
        numbers = to_numbers(tool, poses.apply_delta(tool, [0, 0, 0, 0, 0, yaw]), orientation)
        np.testing.assert_allclose(numbers, 0.0, atol=1e-6)
    numbers = to_numbers(tool, turned[2], orientation)
    assert max(poses.distance(to_target(tool, numbers, orientation), turned[2])) < 1e-9


def test_numbers_stand_for_the_pose_that_they_were_made_of():
    rng = np.random.default_rng(0)
    for _ in range(50):
        here = poses.pose(rng.normal(size=3), rng.normal(size=4))
        there = poses.apply_delta(here, rng.normal(0, 0.3, 6))
        assert max(poses.distance(to_target(here, to_numbers(here, there)), there)) < 1e-9
