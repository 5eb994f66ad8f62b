from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Verb
from tests.models.llava.server import Server, completion, images_of

from failsafe.cli.main import main
from failsafe.datasets.files import file_name
from failsafe.datasets.store import Dataset
from failsafe.errors import RecordError, UserError
from failsafe.evaluation.scoring import OfflineTest, check_file_names
from failsafe.models.baselines import RandomGuess
from failsafe.models.llava.card import LlavaCard, write_card
from failsafe.records import codec
from failsafe.samples.manifest import read_sample_manifest
from failsafe.samples.sample_set import SampleSet
from failsafe.simulators.toy import ToyPick

WINDOW = ("--views", "front,side", "--history", "6", "--frames", "2", "--size", "32", "--workers", "1")


FAILURES = ("--failures", "24", "--labels", "3", "--verify-rollouts", "1")
MODES = ("--modes", "translation_x,early_release,no_op")
GENERATE = ("generate", "ToyPick-v0", *FAILURES, *MODES, "--json", "--out")
TRAIN = ("--steps", "20", "--batch", "16", "--json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, samples and a run, made by the verbs."""
    folder = tmp_path_factory.mktemp("models")
    data, samples, unseen, out = (str(folder / name) for name in ("data", "samples", "unseen", "run"))
    for description in (
        (*GENERATE, data),
        ("samples", data, "--out", samples, *WINDOW),
        ("samples", data, "--out", unseen, "--no-images", *WINDOW),
        ("train", samples, "--out", out, *TRAIN),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["failsafe", *description])
            with pytest.raises(SystemExit) as end:
                main()
        assert not end.value.code, description
    return folder


def test_from_data_to_a_verdict(folder: Path, run: Verb) -> None:
    data, samples, moved = folder / "data", folder / "samples", folder / "moved"
    # What is there already is left as it is.
    assert run(*GENERATE, str(data))[0] == 0
    status, out, _ = run("samples", str(data), "--out", str(samples), *WINDOW, "--json")
    assert status == 0
    made = json.loads(out)
    assert made["samples"] == len(SampleSet(samples)) == sum(made["splits"].values())
    status, out, _ = run("samples", str(data), "--out", str(moved), "--shift", "0.05,5", *WINDOW)
    assert status == 0
    assert f"{made['samples']} samples" in out

    checkpoint = folder / "run"
    status, out, _ = run("train", str(samples), "--out", str(checkpoint), *TRAIN)
    assert status == 0
    assert Path(json.loads(out)["checkpoint"]).stat().st_size < 20_000_000

    scores = folder / "scores"
    status, out, err = run(
        "score", str(checkpoint), str(samples), str(moved), "--train", str(samples), "--out", str(scores)
    )
    assert status == 0, err
    for description in ("compact", "oracle", "never", "return to nominal", "random", "moved"):
        assert description in out, description
    assert (scores / "scores.html").exists()
    table = json.loads((scores / "scores.json").read_text())
    assert next(s["model"] for s in table["scores"]) == "compact"

    page, other = (scores / "scores.html").read_bytes(), folder / "other"
    shutil.copytree(checkpoint, other)
    status, out, err = run("score", str(other), str(samples), "--limit", "9", "--out", str(scores))
    assert status == 2
    assert f"holds the scores of {checkpoint}, which would be overwritten" in err
    assert (scores / "scores.html").read_bytes() == page

    description = ("--limit", "9", "--resamples", "10", "--out", str(folder / "few"))
    status, out, err = run("score", str(checkpoint), str(samples), *description)
    assert status == 0, err
    for name, there in {"oracle": True, "always": True, "random": True, "return to nominal": False}.items():
        assert (name in out) == there, name

    case = next(c for c in Dataset(data).cases() if c.verified and c.labels[0].step >= 6)
    status, out, _ = run(
        "assess", str(checkpoint), str(data), case.case_id, "--step", "12", "--out", str(folder / "saw.png")
    )
    assert status == 0
    assert "failing with probability" in out
    assert (folder / "saw.png").stat().st_size > 500


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_vision_language_model_from_samples_to_a_table(folder: Path, run: Verb, tmp_path: Path) -> None:
    samples, base, out = folder / "samples", tmp_path / "tiny", tmp_path / "run"
    script = Path(__file__).parents[2] / "scripts" / "tiny_llava.py"
    subprocess.run([sys.executable, str(script), str(samples), str(base)], check=True, capture_output=True)
    train = ["train", str(samples), "--model", str(base), "--out", str(out)]
    train += ["--batch", "2", "--accumulation", "1"]
    status, said, err = run(*train, "--dry-run", "--json")
    assert status == 0, err
    tokens = json.loads(said)["tokens"]
    assert tokens["images"] * tokens["tokens_per_image"] + tokens["text"] + tokens["answer"] > 100
    assert not out.exists()
    assert run(*train[:4], "--dry-run")[0] == 0
    status, _, err = run(*train[:4])
    assert (status, "expected --out FOLDER" in err) == (2, True)
    status, _, err = run(*train, "--lora", "--full")
    assert (status, "got both" in err) == (2, True)
    status, _, err = run(*train, "--steps", "2", "--json")
    assert status == 0, err
    status, _, err = run(*train, "--steps", "2", "--resume", "checkpoint-9", "--json")
    assert status == 2
    assert "checkpoint-9" in err
    merged, scores = tmp_path / "merged", tmp_path / "scores"
    status, _, err = run("merge-lora", str(out), "--out", str(merged))
    assert status == 0, err
    description = ["--limit", "2", "--resamples", "10", "--out", str(scores), "--json"]
    status, said, err = run("score", str(merged), str(samples), *description)
    assert status == 0, err
    score, *baselines = json.loads(said)["table"]["scores"]
    assert score["model"] == "merged"
    assert [baseline["model"] for baseline in baselines] == ["never", "always", "random", "oracle"]
    assert (scores / "answers" / "merged-samples.jsonl").read_text().count("\n") == 2


def test_a_served_model_is_scored_and_asked_like_one_that_is_here(
    folder: Path, run: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FAILSAFE_API_KEY", "secret")
    found = SampleSet(folder / "samples")
    rows = found.indices("test")
    seed, task = found.samples[rows[0]].seed, found.samples[rows[0]].task
    served = tmp_path / "served"
    served.mkdir()
    tokens = [('{"failing":"', -0.01, {}), ("yes", -0.2, {"yes": -0.2, "no": -1.8})]
    text = '{"failing":"yes","stage":"reach","mode":"no_op","actions":[]}'
    reply = completion(text, [*tokens, (text[len('{"failing":"yes') :], -0.2, {})])
    description = ["--limit", "4", "--resamples", "10", "--out", str(tmp_path / "scores"), "--json"]
    with Server(lambda _: reply) as server:
        endpoint = ["--endpoint", server.url]
        status, out, err = run("score", "elsewhere", str(folder / "samples"), *endpoint, *description)
        assert status == 0, err
        assert json.loads(out)["table"]["scores"][0]["model"] == "elsewhere"
        assert len(server.requests) == 5, "one to see whether anybody answers"
        assert server.headers[0]["Authorization"] == "Bearer secret"

        write_card(served, LlavaCard(found.spec, train_seeds={task: (seed,)}, modes=("no_op",)))
        status, _, err = run("score", str(served), str(folder / "samples"), *endpoint, *description)
        assert (status, f"was trained on seed {seed}" in err) == (2, True)
        write_card(served, LlavaCard(found.spec, instructions=("fold the shirt",)))
        status, _, err = run("score", str(served), str(folder / "samples"), *endpoint, *description)
        assert (status, "was not trained on" in err) == (2, True)
        assert len(server.requests) == 5

        write_card(served, LlavaCard(found.spec, modes=("no_op",)))
        case = next(c for c in Dataset(folder / "data").cases() if c.verified and c.labels[0].step >= 6)
        asked = ["assess", str(served), str(folder / "data"), case.case_id, "--step", "12", *endpoint]
        status, out, err = run(*asked, "--out", str(tmp_path / "saw.png"))
        assert status == 0, err
        assert "help is needed" in out or "no action" in out
        shown, _ = images_of(server.requests[-1])
        assert len(shown) == len(found.spec.views) * found.spec.frames
        assert shown[0].size == (found.spec.size, found.spec.size)
        schema = server.requests[-1]["response_format"]["json_schema"]["schema"]
        assert schema["properties"]["mode"]["enum"] == ["none", "no_op"]

        description[5] = str(tmp_path / "named")  # scores of another model are not overwritten
        # A server has a name of its own for the model; its card is in the folder.
        address = f"openai+{server.url}?model=org/served+lora/&card={served}"
        status, _, err = run("score", address, str(folder / "samples"), *description)
        assert status == 0, err
        assert server.requests[-1]["model"] == "org/served+lora/"
        assert server.requests[-1]["response_format"]["json_schema"]["schema"] == schema
        description[5] = str(tmp_path / "slash")
        status, _, err = run("score", "served/", str(folder / "samples"), *endpoint, *description)
        assert (status, server.requests[-1]["model"]) == (0, "served/"), err


def test_a_server_that_is_not_there_is_not_asked_for_every_sample(
    folder: Path, run: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        description = ["score", "elsewhere", str(folder / "samples"), "--endpoint", endpoint]
        status, _, err = run(*description, "--out", str(tmp_path / "scores"))
    assert status == 2
    assert "expected a server that answers, got none for the first sample: no answer from" in err
    assert not (tmp_path / "scores").exists()


def test_baselines_do_not_learn_from_what_they_are_tested_on(folder: Path) -> None:
    samples = [folder / "samples"]
    assert len(OfflineTest(samples).baselines(samples)) == 6
    train = OfflineTest(samples, split="train")
    with pytest.raises(RecordError, match=r"got seed \d+ of ToyPick-v0 in both"):
        train.baselines(samples)


def test_baselines_and_metrics_take_the_robot_of_the_samples(folder: Path, tmp_path: Path) -> None:
    """In a copy of the samples the robot turns four times as far in a step."""
    samples, toy = folder / "samples", ToyPick().spec.embodiment
    assert OfflineTest([samples]).robots == {"ToyPick-v0": toy}
    other = dataclasses.replace(toy, max_rotation=4.0 * toy.max_rotation)
    copy = shutil.copytree(samples, tmp_path / "samples")
    manifest = read_sample_manifest(copy)
    text = codec.dumps(dataclasses.replace(manifest, embodiments={"ToyPick-v0": other}))
    (copy / "manifest.json").write_text(text)
    cosines: list[float | None] = []
    for place, robot in ((samples, toy), (copy, other)):
        test = OfflineTest([place])
        for train in ([], [place]):
            baselines = {model.name: model for model in test.baselines(train)}
            assert getattr(baselines["random"], "embodiment", None) == robot
        assert getattr(baselines["return to nominal"], "embodiment", None) == robot
        # The same answers; only the scale of the metric differs.
        guess = RandomGuess(test.spec, toy)
        table = test.run({"random": guess}, tmp_path / "answers", 10)
        cosines.append(table.scores[0].sets[0].headline.figures["cosine"].value)
    assert None not in cosines
    assert cosines[0] != cosines[1]


def test_a_model_is_not_scored_on_what_it_was_trained_on(folder: Path, run: Verb) -> None:
    status, _, err = run("score", str(folder / "run"), str(folder / "samples"), "--split", "train")
    assert status == 2
    assert "was trained on seed" in err
    assert "Traceback" not in err


def test_two_checkpoints_of_a_kind_are_told_apart_in_one_table(
    folder: Path, run: Verb, tmp_path: Path
) -> None:
    first, second = folder / "run" / "compact.safetensors", tmp_path / "other.safetensors"
    shutil.copy(first, second)
    description = [
        "--also",
        str(second),
        "--limit",
        "4",
        "--resamples",
        "10",
        "--out",
        str(tmp_path),
        "--json",
    ]
    status, out, err = run("score", str(first), str(folder / "samples"), *description)
    assert status == 0, err
    called = [score["model"] for score in json.loads(out)["table"]["scores"]]
    assert called[:2] == [str(first), str(second)]
    predictions = {file_name(f"{name}-samples") + ".jsonl" for name in called}
    assert {file.name for file in (tmp_path / "answers").iterdir()} == predictions


def test_answers_of_two_checkpoints_never_share_a_file() -> None:
    with pytest.raises(UserError, match="got 'runs/b' and 'runs-b'"):
        check_file_names(["runs/b", "runs-b"])


def test_a_view_that_is_not_there_does_not_block_the_folder(folder: Path, run: Verb, tmp_path: Path) -> None:
    description = ["samples", str(folder / "data"), "--out", str(tmp_path), *WINDOW, "--per-cell", "1"]
    assert run(*description, "--views", "frnt")[0] == 2
    assert run(*description)[0] == 0
    status, _, err = run(*description, "--size", "16")
    assert status == 2
    assert "made with other settings" in err


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        (("samples", "nowhere", "--out", "x"), "expected a dataset made by `failsafe generate`"),
        (("samples", "--out", "x"), "expected at least one dataset"),
        (("samples", "{data}", "--out", "x", "--jitter", "a lot"), "expected --jitter METRES,DEGREES"),
        (("samples", "{data}", "--out", "x", "--splits", "trian"), "unknown split 'trian'"),
        (("samples", "{data}", "--out", "x", "--views", "frnt", "--workers", "1"), "did you mean 'front'"),
        (("train", "nowhere", "--out", "x"), "expected samples made by `failsafe samples`"),
        (("score", "nowhere.safetensors", "{samples}"), "which does not exist"),
        (("score", "nowhere", "{samples}"), "a checkpoint made by `failsafe train` or its folder"),
        (("score", "compact", "{samples}"), "compact reads front, side, hand at 96 px"),
        (("score", "{run}", "{samples}", "--also", "{run}"), "expected checkpoints with different names"),
        (("train", "{samples}", "--out", "x", "--steps", "0"), "expected steps of at least 1, got 0"),
        (("train", "{samples}", "--out", "x", "--patience", "-1"), "expected patience of at least 0"),
        (
            ("train", "{samples}", "--out", "x", "--gpus", "8"),
            "expected --strategy and --gpus with --dry-run",
        ),
        (("train", "{samples}", "--out", "x", "--rate", "-1"), "expected a learning rate above 0, got -1"),
        (
            ("train", "{samples}", "--out", "x", "--mix", "a.json:0.1", "--accumulation", "1"),
            "accumulation and mix are settings of LLaVA-OneVision, but the model to train is compact",
        ),
        (
            ("train", "{samples}", "--out", "x", "--model", "llava", "--proprioception-only"),
            "proprioception_only is a setting of the compact model, but the model to train is llava",
        ),
        (
            ("train", "{samples}", "--out", "x", "--model", "llava", "--strategy", "zero3"),
            "expected --strategy and --gpus with --dry-run",
        ),
        (
            ("train", "{samples}", "--model", "llava", "--dry-run", "--resume", "checkpoint-9"),
            "expected --resume for a training, got it with --dry-run",
        ),
        (("samples", "{data}", "--out", "x", "--per-cell", "-3"), "to be 0 or more, got -3"),
        (("score", "{run}", "{unseen}"), "got 'unseen', which was made without them"),
        (
            ("score", "{run}", "{samples}", "--split", "tset"),
            "expected samples of the split tset in 'samples'",
        ),
        (("assess", "{run}", "{data}", "nothing", "--step", "9"), "no episode 'nothing'"),
        (("assess", "{run}", "{data}", "{case}", "--step", "2"), "expected a step from 6 (the history)"),
        (("assess", "{run}", "{data}", "{case}", "--step", "9", "--rollout", "x"), "unknown rollout"),
    ],
)
def test_mistakes_end_in_one_sentence(
    folder: Path,
    run: Verb,
    description: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    case = next(Dataset(folder / "data").cases()).case_id
    places = {name: str(folder / name) for name in ("data", "samples", "unseen", "run")}
    status, _, err = run(*(word.format(**places, case=case) for word in description))
    assert status == 2
    assert sentence in err
    assert "Traceback" not in err
