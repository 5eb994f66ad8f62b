"""Everything that reads what others wrote, each with something valid to mutate."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import yaml
from tests.monitors import openpi_client
from tests.monitors.test_requests import Guarded
from tests.policies.websocket_server import unpack as unpack_message
from tests.reports import evaluation_data, gallery_data
from websockets.sync.client import ClientConnection

from failsafe.datasets.frame_grids import FrameIndex, TraceFrames, read_index
from failsafe.datasets.manifest import Manifest, check_task_code, read_manifest, write_manifest
from failsafe.datasets.mined import MinedManifest, MiningConfig, read_mined_manifest, read_source
from failsafe.datasets.store import Dataset
from failsafe.evaluation.episode_table import read_episode_table, write_episode_table
from failsafe.evaluation.notes import find_faults, notes
from failsafe.evaluation.predictions import Prediction, read_predictions
from failsafe.evaluation.protocol import Protocol, read_protocol
from failsafe.evaluation.replay_videos import ReplayVideo
from failsafe.evaluation.results import Results
from failsafe.generation.config import GenerationConfig, default_modes, read_modes_file
from failsafe.models import compact_net
from failsafe.models.camera_geometry import CameraIntrinsics
from failsafe.models.compact import FORMAT as COMPACT
from failsafe.models.compact import CompactMeta, load_compact, save_compact
from failsafe.models.contract import assess_safely
from failsafe.models.llava.card import CARD, LlavaCard, read_card
from failsafe.models.llava.endpoint import _NoAnswerError, _read_completion
from failsafe.models.llava.reading import to_assessment
from failsafe.models.version_1 import EMBODIMENT, NORMALIZATION
from failsafe.models.weights import KEY
from failsafe.monitors.calibration import (
    Calibration,
    Threshold,
    check_usable,
    read_calibration,
    successes_needed,
)
from failsafe.policies import json_numpy, msgpack_numpy
from failsafe.policies.contract import check_chunk
from failsafe.policies.openpi import OpenpiPolicy
from failsafe.policies.reference import FORMAT as REFERENCE
from failsafe.policies.reference import ReferenceMeta, load_reference, save_reference
from failsafe.policies.reference_net import ReferenceConfig, ReferenceNet
from failsafe.records import codec
from failsafe.records.assessment import Assessment, Window, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA
from failsafe.records.observation import PolicyObservation
from failsafe.records.provenance import collect_provenance
from failsafe.records.trace import pack, unpack
from failsafe.reports.coverage_rows import make_rows
from failsafe.reports.evaluation import render_report
from failsafe.reports.gallery_cases import plain_case, plain_frames, plain_nominal
from failsafe.reports.mining import mining_text
from failsafe.reports.tables import table_text  # noqa: F401 - imported once, not in the first example
from failsafe.samples.demonstrations import DemonstrationConfig, DemonstrationManifest, DemonstrationSet
from failsafe.samples.manifest import SampleConfig, SampleManifest, read_sample_manifest
from failsafe.samples.sample import Kind, Sample
from failsafe.samples.sample_set import SampleSet
from failsafe.samples.select import select_samples
from failsafe.simulators.contract import Camera
from failsafe.training.mixture import read_questions

WINDOW = WindowSpec(("front", "hand"), history=4, frames=2, size=16)
SAMPLES = SampleConfig(WINDOW)
TASK = "ToyPick-v0"


@dataclass(frozen=True)
class Target:
    """Something valid, and what reads it.

    Attributes:
        valid: A JSON value, arrays by name, or bytes.
        use: Reads a mutated one in a folder of its own.
    """

    valid: Any
    use: Callable[[Any, Path], object]


def plain(record: Any) -> Any:
    """A record as the JSON value in its file."""
    return json.loads(codec.dumps(record))


def text(value: Any) -> bytes:
    """A mutated JSON value as the content of a file; its numbers may be none."""
    return json.dumps(value).encode()


def window(spec: WindowSpec, instruction: str) -> Window:
    """A window of a tool that stands still."""
    frames = np.zeros((len(spec.views), spec.frames, spec.size, spec.size, 3), np.uint8)
    poses = np.tile(np.array([0.5, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0], np.float32), (spec.history + 1, 1))
    return Window(instruction, spec, frames, poses, np.zeros(spec.history + 1, np.float32))


def make_targets(folder: Path) -> dict[str, Target]:
    """Make all targets; the files that are mutated lie in `folder`."""
    return {
        **_datasets(folder / "data"),
        **_mined(folder / "mined"),
        **_samples(folder / "samples"),
        **_demonstrations(folder / "demonstrations"),
        **_results(folder / "results"),
        **_checkpoints(folder / "checkpoints"),
        **_settings(folder / "settings"),
        **_wires(),
    }


def _datasets(folder: Path) -> dict[str, Target]:
    whole = gallery_data.make_dataset(folder)
    for path in whole.case_files():
        if path.stem != "pick-open":
            path.unlink()
    (push,) = (path for path in whole.nominal_files() if "Push" in path.parent.name)
    push.unlink()
    config = GenerationConfig((TASK,), 3, modes=default_modes(("slip", "translation_x")))
    write_manifest(folder, Manifest(config, collect_provenance()))
    case, nominal = whole.case_files()[0], whole.nominal_files()[0]
    camera = Camera("front", (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0))
    index = FrameIndex(64, 4, "", 20.0, (camera,), (TraceFrames("failing", "0", (0, 4, 8), 2),))
    frames = folder / "frames" / TASK / "pick-open"
    frames.mkdir(parents=True)
    (frames / "index.json").write_bytes(text(plain(index)))

    def read(_: object = None) -> None:
        dataset = Dataset(folder)
        assert len(list(dataset.cases(skip_damaged=True))) <= 1
        assert len(list(dataset.nominals(skip_damaged=True))) <= 1
        for found in dataset.cases():
            plain_case(dataset, found, "t")
            plain_nominal(dataset, found.task, found.seed)
            dataset.rollouts(found)
            json.dumps([row.__dict__ for row in make_rows([found], config)], default=str)
        select_samples([dataset], SAMPLES)

    def record(path: Path) -> Target:
        data = path.read_bytes()
        arrays = unpack(data, "")

        def use(value: Any, _: Path) -> None:
            body = np.frombuffer(text(value), np.uint8)
            path.write_bytes(pack({**arrays, "record": body}))
            with restored(path, data):
                read()

        return Target(json.loads(arrays["record"].tobytes()), use)

    def traces(path: Path) -> Target:
        data = path.read_bytes()

        def use(arrays: dict[str, np.ndarray], _: Path) -> None:
            path.write_bytes(pack(arrays))
            with restored(path, data):
                read()

        return Target(unpack(data, ""), use)

    def manifest(value: Any, _: Path) -> None:
        with written(folder / "manifest.json", text(value)):
            found = read_manifest(folder)
            assert found.command
            read_source(folder)
            check_task_code(folder)

    def frame_index(value: Any, _: Path) -> None:
        with written(frames / "index.json", text(value)):
            plain_frames(read_index(frames))
            for found in Dataset(folder).cases():
                plain_case(Dataset(folder), found, "t")

    return {
        "case": record(case),
        "nominal": record(nominal),
        "traces of a case": traces(case),
        "trace of a nominal rollout": traces(nominal),
        "bytes of a case": bytes_of(case, read),
        "manifest": Target(json.loads((folder / "manifest.json").read_text()), manifest),
        "index of frames": Target(plain(index), frame_index),
    }


def _mined(folder: Path) -> dict[str, Target]:
    shutil.copytree(folder.parent / "data", folder)
    config = MiningConfig("reference:weak", "sha", (TASK,), episodes=3, perturbations=("slip",))
    value = plain(MinedManifest(config, collect_provenance()))
    (folder / "manifest.json").write_bytes(text(value))
    path = Dataset(folder).case_files()[0]
    data = path.read_bytes()
    arrays = unpack(data, "")
    fields = json.loads(arrays["record"].tobytes())
    fields |= {
        "policy": {"name": "weak", "weights": "", "deterministic": True},
        "nearest": {"mode": "slip", "stage": "lift", "step": 3, "distance": 0.01},
        "expert_steps": [[0, 20], [10, -1]],
    }

    def manifest(found: Any, _: Path) -> None:
        with written(folder / "manifest.json", text(found)):
            assert read_mined_manifest(folder).command
            read_source(folder)
            mining_text(Dataset(folder), 80)

    def case(found: Any, _: Path) -> None:
        path.write_bytes(pack({**arrays, "record": np.frombuffer(text(found), np.uint8)}))
        with restored(path, data):
            mining_text(Dataset(folder), 80)

    return {"mined manifest": Target(value, manifest), "mined case": Target(fields, case)}


def _samples(folder: Path) -> dict[str, Target]:
    (folder / TASK).mkdir(parents=True)
    manifest = SampleManifest(SAMPLES, ("failsafe generate",), collect_provenance(), complete=True)
    manifest = replace(manifest, embodiments={TASK: EMBODIMENT})
    common = dict(source=0, task=TASK, seed=3, split="train", instruction="pick", stage="lift", step=7)
    nominal = Sample(name="a", rollout="nominal", case_id="", kind=Kind.NOMINAL, failing=False, **common)
    failing = replace(nominal, name="b", kind=Kind.LATE, failing=True, mode="slip", delay=3, recoverable=True)
    records = [codec.to_plain(s) for s in (nominal, replace(failing, actions=((0.01,) * 7,) * 2))]
    rows = window(WINDOW, "pick")
    arrays = {
        "records": np.frombuffer(text(records), np.uint8),
        "tcp_poses": np.stack([rows.tcp_poses] * 2),
        "gripper_widths": np.stack([rows.gripper_widths] * 2),
        "objects": np.zeros((2, 2, 7), np.float32),
        "cameras": np.zeros((2, 2, 9), np.float32),
        "continuation": np.zeros((2, 12, 7), np.float32),
    }
    path, images = folder / TASK / "00000003-0.npz", folder / TASK / "00000003-0.npy"
    path.write_bytes(pack(arrays))
    np.save(images, np.stack([rows.frames] * 2), allow_pickle=False)
    (folder / "manifest.json").write_bytes(text(plain(manifest)))
    data = path.read_bytes()

    def read(_: object = None) -> None:
        samples = SampleSet(folder)
        assert samples.embodiment is None or samples.objects_by_task is not None
        for index in [*samples.indices("train"), *samples.indices("train", images=False)]:
            samples.window(index, samples.has_images(index)).check(samples.spec)

    def of_arrays(found: dict[str, np.ndarray], _: Path) -> None:
        path.write_bytes(pack(found))
        with restored(path, data):
            read()

    def of_records(found: Any, _: Path) -> None:
        of_arrays({**arrays, "records": np.frombuffer(text(found), np.uint8)}, folder)

    def of_manifest(found: Any, _: Path) -> None:
        with written(folder / "manifest.json", text(found)):
            assert read_sample_manifest(folder).command(folder)
            read()

    return {
        "manifest of samples": Target(plain(manifest), of_manifest),
        "records of samples": Target(records, of_records),
        "arrays of samples": Target(arrays, of_arrays),
        "bytes of images": bytes_of(images, read),
    }


def _demonstrations(folder: Path) -> dict[str, Target]:
    (folder / TASK).mkdir(parents=True)
    camera = Camera("front", (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0))
    config = DemonstrationConfig((TASK,), 1, views=("front",), size=16, chunk=4)
    manifest = DemonstrationManifest(
        config, 20.0, {TASK: "pick"}, {TASK: (camera,)}, collect_provenance(), EMBODIMENT
    )
    actions = np.zeros((6, 4, 7), np.float32)
    actions[:3, :, 6], actions[3:, :, 6] = 1.0, -1.0
    arrays = {
        "tcp_poses": np.zeros((6, 7), np.float32),
        "gripper_widths": np.linspace(0.08, 0, 6, dtype=np.float32),
        "actions": actions,
    }
    path = folder / TASK / "00300000.npz"
    path.write_bytes(pack(arrays))
    np.save(path.with_suffix(".npy"), np.zeros((6, 1, 16, 16, 3), np.uint8), allow_pickle=False)
    (folder / "manifest.json").write_bytes(text(plain(manifest)))
    data = path.read_bytes()

    def read(_: object = None) -> None:
        found = DemonstrationSet(folder)
        assert found.frames(len(found) - 1).size * found.keyframes.size

    def of_arrays(found: dict[str, np.ndarray], _: Path) -> None:
        path.write_bytes(pack(found))
        with restored(path, data):
            read()

    def of_manifest(found: Any, _: Path) -> None:
        with written(folder / "manifest.json", text(found)):
            read()

    return {
        "manifest of demonstrations": Target(plain(manifest), of_manifest),
        "arrays of demonstrations": Target(arrays, of_arrays),
    }


def _results(folder: Path) -> dict[str, Target]:
    results = Results(folder)
    results.begin(evaluation_data.CONFIG)
    for episode in evaluation_data.make_episodes()[:14]:
        results.write(episode)
    file = next(path for path in sorted(folder.rglob("*.json")) if "monitor" in str(path))
    manifest = json.loads((folder / "manifest.json").read_text())
    video = evaluation_data.make_video(folder / "videos", 4, (evaluation_data.Ending.FAILURE,) * 2)
    table = folder / "episodes.parquet"
    write_episode_table(results.episodes(), table)
    frozen = replace(evaluation_data.CONFIG, first_seed=900_000, last_seed=900_010)
    protocol = Protocol(frozen, "success", 3.0)

    def of_episode(found: Any, _: Path) -> None:
        with written(file, text(found)):
            said = notes(results.manifest, find_faults(results.episodes()))
            assert [results.summary(), said]
            render_report(results)

    def of_manifest(found: Any, _: Path) -> None:
        with written(folder / "manifest.json", text(found)):
            assert results.manifest
            render_report(results)

    def of_video(found: Any, place: Path) -> None:
        (place / "video.json").write_bytes(text(found))
        made = codec.read(ReplayVideo, place / "video.json", within=place)
        render_report(results, [replace(made, item=video.item)])

    def of_protocol(found: Any, place: Path) -> None:
        (place / "protocol.json").write_bytes(text(found))
        assert read_protocol(place / "protocol.json")

    return {
        "episode": Target(json.loads(file.read_text()), of_episode),
        "manifest of results": Target(manifest, of_manifest),
        "video": Target(plain(video), of_video),
        "protocol": Target(plain(protocol), of_protocol),
        "bytes of an episode table": bytes_of(table, lambda: list(read_episode_table(table))),
    }


def _checkpoints(folder: Path) -> dict[str, Target]:
    folder.mkdir(parents=True)
    intrinsics = (CameraIntrinsics(0.8, False), CameraIntrinsics(1.3, True))
    widths = (4, 4, 4, 4)
    config = compact_net.CompactConfig(
        WINDOW, ("slip",), ("lift",), ("pick",), EMBODIMENT, NORMALIZATION, widths, 8, intrinsics, objects=2
    )
    meta = CompactMeta(config, {TASK: (1, 2)}, {"steps": "3"})
    compact, reference = folder / "compact.safetensors", folder / "reference.safetensors"
    save_compact(compact, compact_net.CompactNet(config), meta)
    corner = (0.0, 0.0, 0.0)
    other = ReferenceConfig(("front",), 16, 4, 20.0, ("pick",), (corner, corner), NORMALIZATION, widths, 8, 3)
    about = ReferenceMeta(other, 5, {TASK: (1,)}, {})
    save_reference(reference, ReferenceNet(other), about)

    def use_compact() -> None:
        model = load_compact(compact, any_instruction=True)
        assess_safely(model, window(model.window_spec, "pick"))

    def use_reference() -> None:
        policy = load_reference(str(reference))
        policy.reset(policy.meta.config.instructions[0]) if policy.meta.config.instructions else None
        at = np.array([0.5, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0])
        size = policy.meta.config.size
        images = {view: np.zeros((size, size, 3), np.uint8) for view in policy.views}
        policy.act(PolicyObservation(images, at, at, 0.04))

    def described(path: Path, form: str, read: Callable[[], None]) -> Callable[[Any, Path], None]:
        weights = safetensors.torch.load(path.read_bytes())

        def use(found: Any, _: Path) -> None:
            facts = json.dumps({"format": form, "meta": text(found).decode()})
            with written(path, safetensors.torch.save(weights, {KEY: facts})):
                read()

        return use

    card = LlavaCard(WINDOW, instructions=("pick",), train_seeds={TASK: (1,)}, modes=("slip",))

    def of_card(found: Any, place: Path) -> None:
        (place / CARD).write_bytes(text(found))
        assert read_card(place)

    return {
        "description of a compact model": Target(plain(meta), described(compact, COMPACT, use_compact)),
        "description of a policy": Target(plain(about), described(reference, REFERENCE, use_reference)),
        "bytes of a compact model": bytes_of(compact, use_compact),
        "bytes of a policy": bytes_of(reference, use_reference),
        "card": Target(plain(card), of_card),
    }


def _settings(folder: Path) -> dict[str, Target]:
    folder.mkdir(parents=True)
    calibration = Calibration(
        *(0.05, "compact", "reference:weak", 2.0, {"pick": Threshold(0.6, 93), "push": Threshold(None, 7)}),
        seeds=(800_000, 800_100),
    )
    sample = Sample(
        *("a", 0, TASK, 3, "train", "nominal", "", 7, Kind.NOMINAL, "pick", "lift", False), actions=()
    )
    prediction = Prediction(sample, Assessment(actions=((0.0,) * 7,)))
    modes = {"slip": {"weight": 1.0, "magnitude": {"uniform": [0.1, 0.2]}, "moment": {"uniform": [0, 1]}}}
    (folder / "image.png").write_bytes(b"x")
    question = {
        "image": "image.png",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": "A box."},
        ],
    }

    def of_calibration(found: Any, place: Path) -> None:
        (place / "thresholds.json").write_bytes(text(found))
        made = read_calibration(place / "thresholds.json")
        check_usable(made)
        assert [made.threshold("pick"), successes_needed(made.alpha)]

    def of_predictions(found: Any, place: Path) -> None:
        (place / "answers.jsonl").write_bytes(text(found) + b"\n")
        read_predictions(place / "answers.jsonl")

    def of_modes(found: Any, place: Path) -> None:
        (place / "modes.yaml").write_text(yaml.safe_dump(found), encoding="utf-8", errors="surrogatepass")
        GenerationConfig((TASK,), 3, modes=read_modes_file(place / "modes.yaml"))

    def of_questions(found: Any, _: Path) -> None:
        with written(folder / "vqa.json", text(found)):
            read_questions(folder / "vqa.json")

    return {
        "calibration": Target(plain(calibration), of_calibration),
        "predictions": Target(plain(prediction), of_predictions),
        "modes": Target(modes, of_modes),
        "visual questions": Target([question], of_questions),
    }


def _wires() -> dict[str, Target]:
    guarded = Guarded(openpi_client.alarmed())
    request, answer = openpi_client.request(), openpi_client.answer()
    policy = OpenpiPolicy("ws://127.0.0.1:9")
    row = [0.01] * 7

    def of_request(data: bytes, _: Path) -> None:
        assert isinstance(guarded.ask(data), bytes)

    def of_answer(data: bytes, _: Path) -> None:
        guarded.guard.on_request(request)
        guarded.guard.on_answer(data)

    def of_fields(arrays: dict[str, np.ndarray], place: Path) -> None:
        with contextlib.suppress(ValueError):  # of the test's own writer
            of_request(msgpack_numpy.packb({**arrays, "prompt": "pick"}), place)

    def of_chunk(data: bytes, _: Path) -> None:
        connection: Any = ClientConnection.__new__(ClientConnection)
        connection.recv = lambda timeout: data
        found = policy._receive(connection, 1.0, "actions")
        check_chunk("policy", found.get("actions"), 64)

    def of_json(found: Any, _: Path) -> None:
        with contextlib.suppress(ValueError):  # the client makes a `PolicyError` of it
            check_chunk("policy", json_numpy.loads(json.dumps(found)), 64)

    def of_completion(found: Any, _: Path) -> None:
        with contextlib.suppress(_NoAnswerError):
            said, tokens, _cut = _read_completion(text(found))
            to_assessment(said, tokens, MANISKILL_PANDA, True)

    said = '{"failing":"yes","stage":"goal","mode":"slip","actions":[[4,31,6,-210,-1,-2,-658,100]]}'
    logprobs = [{"token": part, "logprob": -0.1, "top_logprobs": []} for part in re.split("(yes)", said)]
    choice = {"message": {"content": said}, "logprobs": {"content": logprobs}, "finish_reason": "stop"}
    array = {"__numpy__": "AACAPwAAgD8AAIA/AACAPwAAgD8AAIA/AACAPw==", "dtype": "<f4", "shape": [1, 7]}
    fields = {name: np.asarray(value) for name, value in unpack_message(request).items() if name != "prompt"}
    return {
        "bytes of a request": Target(request, of_request),
        "fields of a request": Target(fields, of_fields),
        "bytes of an answer": Target(answer, of_answer),
        "bytes of a chunk": Target(answer, of_chunk),
        "actions as JSON": Target(array, of_json),
        "actions as lists": Target([row, row], of_json),
        "chat completion": Target({"choices": [choice]}, of_completion),
    }


def bytes_of(path: Path, read: Callable[[], object]) -> Target:
    """A file of which single bytes are mutated."""

    def use(found: bytes, _: Path) -> None:
        with written(path, found):
            read()

    return Target(path.read_bytes(), use)


@contextlib.contextmanager
def written(path: Path, data: bytes) -> Any:
    """A file with other content in the context."""
    before = path.read_bytes() if path.exists() else b""
    path.write_bytes(data)
    with restored(path, before):
        yield


@contextlib.contextmanager
def restored(path: Path, data: bytes) -> Any:
    """Write a file back after the context."""
    try:
        yield
    finally:
        path.write_bytes(data)


torch.set_num_threads(1)
