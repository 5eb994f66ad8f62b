import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.models.llava.checkpoints import quick
from tests.models.llava.made_up import SPEC, MadeUpSamples, make_window

from failsafe.errors import UserError
from failsafe.models.llava import checkpoint
from failsafe.models.llava.answer import answer_of, format_answer
from failsafe.models.llava.architectures import released_config
from failsafe.models.llava.card import read_card
from failsafe.models.llava.model import LlavaModel
from failsafe.records.embodiment import LIBERO_PANDA, MANISKILL_PANDA
from failsafe.training.budget import on_meta
from failsafe.training.examples import Examples, SampleSource, make_examples, to_learn
from failsafe.training.llava import _card, _Collator, merge_lora, train_llava
from failsafe.training.llava_config import LlavaTrainConfig

# From peft, in PeftModel.__init__: it asks the model by the name that transformers had before.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def silent(line):
    pass


def weights(folder, name="model.safetensors"):
    return load_file(folder / name)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Two visual questions, one of them with two answers."""
    folder = tmp_path_factory.mktemp("vqa")
    rng = np.random.default_rng(5)
    for name in ("one.png", "two.png"):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(folder / name)
    said = [("human", "<image>\nHow many?"), ("gpt", "Two."), ("human", "Where?"), ("gpt", "On the table.")]
    rows = [
        {"id": 1, "image": "one.png", "conversations": [{"from": w, "value": v} for w, v in said]},
        {"id": 2, "image": "two.png", "conversations": [{"from": w, "value": v} for w, v in said[:2]]},
    ]
    (folder / "vqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "vqa.jsonl"


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """A full fine-tuning of 6 steps with a checkpoint at every second one, and what it told."""
    folder, told = tmp_path_factory.mktemp("runs") / "full", []
    config = quick(base, steps=6, save_every=2, keep=9, log_every=1, batch=2)
    train_llava(MadeUpSamples(4), config, folder, told.append)
    return folder, config, told


@pytest.fixture(scope="module")
def lora_run(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "lora"
    config = quick(trained, lora=True, lora_rank=4, steps=6, save_every=3, keep=9, batch=2)
    # Samples that the base does not know.
    train_llava(MadeUpSamples(8), config, folder, silent)
    return folder


def test_the_loss_is_on_the_answer_alone(base):
    samples, processor = MadeUpSamples(8), checkpoint.load_processor(str(base))
    examples = Examples(samples, processor)
    batch = _Collator(processor, examples)([{"index": 1}, {"index": 2}])
    for labels, ids, index in zip(batch["labels"], batch["input_ids"], (1, 2), strict=True):
        learned = processor.tokenizer.decode(labels[labels != -100])
        assert learned == format_answer(answer_of(samples.samples[index], MANISKILL_PANDA)) + "<|im_end|>"
        assert (ids[labels != -100] == labels[labels != -100]).all()
        assert int((ids == processor.image_token_id).sum()) == 4 * 5
    assert batch["pixel_values"].shape == (8, 1, 3, 28, 28)


def test_answers_and_card_are_of_the_robot_of_the_samples(base):
    samples = MadeUpSamples(4)
    samples.embodiment = LIBERO_PANDA
    far = (0.04, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # more than a step of ManiSkill's Panda
    samples.samples[1] = dataclasses.replace(samples.samples[1], actions=(far,))
    examples = Examples(samples, checkpoint.load_processor(str(base)))
    assert '"actions":[[1,400,0,0,0,0,0,100]]' in examples[1].completion
    assert _card(samples, "").embodiment == LIBERO_PANDA


def test_it_tells_the_budget_first_and_then_how_far_it_is(run):
    _, _, told = run
    assert told[0].startswith("4 examples of ")
    assert "4 images of 5" in told[0]
    assert told[0].endswith("6 steps")
    assert told[1].startswith("step 1/6: loss ")
    assert len(told) == 8


def test_a_run_is_a_checkpoint(run):
    folder, _, _ = run
    assert LlavaModel(folder, "cpu", max_tokens=4).window_spec == SPEC
    card = read_card(folder)
    assert card.train_seeds == {"Made-up-v1": (0, 1, 2, 3)}
    assert card.instructions == ("Pick up the red cube",)
    assert card.base == ""
    changed = weights(folder)
    assert not same(changed, weights(folder / "checkpoint-2"))
    settings = json.loads((folder / "processor_config.json").read_text())
    assert settings["processor_class"] == "LlavaOnevisionProcessor"


@pytest.mark.parametrize("at", ["checkpoint-2", "checkpoint-4"])
def test_it_goes_on_from_any_checkpoint_to_the_same_weights(run, tmp_path, at):
    folder, config, _ = run
    copy, told = tmp_path / "copy", []
    copy.mkdir()
    shutil.copy(folder / "run.json", copy)
    for name in ("checkpoint-2", "checkpoint-4"):
        shutil.copytree(folder / name, copy / name)
    # The last one is what an interrupted run goes on from by itself.
    train_llava(MadeUpSamples(4), config, copy, told.append, resume="" if at == "checkpoint-4" else at)
    assert told[1] == f"going on from {at}"
    assert same(weights(copy), weights(folder))


def test_nothing_unsafe_is_loaded_on_the_way(run, tmp_path, monkeypatch):
    folder, config, _ = run
    copy, seen = tmp_path / "copy", []
    copy.mkdir()
    shutil.copy(folder / "run.json", copy)
    shutil.copytree(folder / "checkpoint-4", copy / "checkpoint-4")
    load = torch.load

    def watched(*args, **settings):
        seen.append(settings.get("weights_only"))
        return load(*args, **settings)

    monkeypatch.setattr(torch, "load", watched)
    train_llava(MadeUpSamples(4), config, copy, silent)
    assert seen
    assert all(flag is True for flag in seen)


def test_lora_learns_and_merges_to_the_same_model(lora_run, trained, tmp_path):
    assert not (lora_run / "model.safetensors").exists()
    adapted = LlavaModel(lora_run, "cpu")
    merge_lora(lora_run, tmp_path / "merged")
    merged = LlavaModel(tmp_path / "merged", "cpu")
    before = LlavaModel(trained, "cpu")
    window = make_window(1)
    one, two, none = (model.assess(window) for model in (adapted, merged, before))
    assert one.raw == two.raw
    assert one.failure_probability == pytest.approx(two.failure_probability, abs=1e-5)
    assert abs(one.failure_probability - none.failure_probability) > 1e-4
    assert read_card(tmp_path / "merged").base == ""
    assert not [*(tmp_path / "merged").glob("*.bin"), *lora_run.glob("*.bin")]


def test_a_lora_run_goes_on_to_the_same_adapter(lora_run, trained, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(lora_run / "run.json", copy)
    shutil.copytree(lora_run / "checkpoint-3", copy / "checkpoint-3")
    config = quick(trained, lora=True, lora_rank=4, steps=6, save_every=3, keep=9, batch=2)
    train_llava(MadeUpSamples(8), config, copy, silent)
    name = "adapter_model.safetensors"
    assert same(weights(copy, name), weights(lora_run, name))
    assert not same(weights(copy / "checkpoint-3", name), weights(lora_run, name))


def test_a_checkpoint_of_a_lora_run_merges_too(lora_run, tmp_path):
    merge_lora(lora_run / "checkpoint-3", tmp_path / "early")
    merge_lora(lora_run, tmp_path / "late")
    assert not same(weights(tmp_path / "early"), weights(tmp_path / "late"))


def test_what_cannot_be_merged(run, lora_run, tmp_path):
    with pytest.raises(UserError, match="there is nothing to merge"):
        merge_lora(run[0], tmp_path / "merged")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    with pytest.raises(UserError, match="to be empty"):
        merge_lora(lora_run, tmp_path / "full")
    with pytest.raises(UserError, match="expected a checkpoint of FailSafe-VLM"):
        merge_lora(tmp_path, tmp_path / "merged")


def test_another_run_does_not_go_on_in_the_same_folder(run, base):
    folder, config, _ = run
    with pytest.raises(UserError, match="it has others"):
        train_llava(MadeUpSamples(4), dataclasses.replace(config, seed=1), folder, silent)
    with pytest.raises(UserError, match="it has others"):
        train_llava(MadeUpSamples(5), config, folder, silent)
    with pytest.raises(UserError, match="expected a checkpoint of the run at"):
        train_llava(MadeUpSamples(4), config, folder, silent, resume="checkpoint-5")


def test_visual_questions_are_mixed_in(base, questions, tmp_path):
    told = []
    config = quick(base, mix=f"{questions}:0.5", steps=2)
    train_llava(MadeUpSamples(4), config, tmp_path / "mixed", told.append)
    assert told[0].startswith("8 examples")
    processor = checkpoint.load_processor(str(base))
    examples = make_examples(MadeUpSamples(4), config, processor, silent)
    answers = {example.completion for example in examples}
    assert {"Two.<|im_end|>", "On the table.<|im_end|>"} <= answers
    second = next(example for example in examples if example.completion.startswith("On"))
    assert second.prompt.count("<image>") == len(second.images) == 1
    assert "How many?" in second.prompt
    assert "Two.<|im_end|>" in second.prompt
    batch = _Collator(processor, examples)([{"index": i} for i in range(8)])
    learned = [processor.tokenizer.decode(row[row != -100]) for row in batch["labels"]]
    assert learned == [example.completion for example in examples]


@pytest.mark.parametrize("name", ["fsdp", "zero3"])
def test_configs_are_what_accelerate_and_the_model_know(name):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(Path(__file__).parents[2] / "configs" / f"{name}.yaml"))
    assert config.mixed_precision == "bf16"
    if name == "zero3":
        assert config.deepspeed_config["zero_stage"] == 3
        assert config.deepspeed_config["zero3_save_16bit_model"] is True
        return
    wrapped = set(config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(","))
    large = on_meta(released_config("llava-hf/llava-onevision-qwen2-7b-ov-hf"))
    there = [type(module).__name__ for module in large.modules()]
    assert [there.count(layer) for layer in sorted(wrapped)] == [28, 26]


def test_too_long_examples(base, tmp_path):
    short = shutil.copytree(base, tmp_path / "short")
    config = json.loads((short / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 256
    (short / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="at most 256 tokens"):
        train_llava(MadeUpSamples(4), quick(short), tmp_path / "run", silent)


def test_no_samples(base, tmp_path):
    with pytest.raises(UserError, match="of the split train and with a known answer, got none"):
        train_llava(MadeUpSamples(0, tests=3), quick(base), tmp_path / "run", silent)


@pytest.mark.parametrize(
    ("settings", "because"),
    [
        ({"steps": -1}, "steps to be at least 0"),
        ({"batch": 0}, "batch above 0"),
        ({"learning_rate": -1.0}, "learning_rate to be at least 0"),
        ({"warmup": 1.0}, "warmup from 0"),
        ({"mix": "vqa.jsonl"}, "FILE:SHARE"),
    ],
)
def test_settings_out_of_range(settings, because):
    with pytest.raises(UserError, match=because):
        LlavaTrainConfig(model="tiny", **settings)


def test_what_nobody_knows_is_not_learned():
    """A failing moment at which no way back was looked for is not one from which there is none."""
    samples = MadeUpSamples(6)
    failing = next(i for i, sample in enumerate(samples.samples) if sample.failing)
    samples.samples[failing] = dataclasses.replace(samples.samples[failing], actions=(), recoverable=None)
    assert to_learn(samples) == [i for i in range(6) if i != failing]


def test_learning_rates():
    assert LlavaTrainConfig(model="tiny").rate == 1e-4
    assert LlavaTrainConfig(model="tiny", lora=False).rate == 1e-5
    assert LlavaTrainConfig(model="tiny", learning_rate=3e-4).rate == 3e-4


def test_made_up_samples_are_samples():
    assert isinstance(MadeUpSamples(1), SampleSource)


@pytest.mark.parametrize(
    ("number", "steps", "distinct"), [(24, 100, 10), pytest.param(64, 240, 24, marks=pytest.mark.long)]
)
def test_it_learns_samples_by_heart(number, steps, distinct, base, tmp_path):
    """Only the images tell the samples apart, so what it learns it learns by looking."""
    samples = MadeUpSamples(number)
    config = quick(base, batch=16, steps=steps)
    train_llava(samples, config, tmp_path / "run", silent)
    model = LlavaModel(tmp_path / "run", "cpu")
    wanted = [format_answer(answer_of(sample, MANISKILL_PANDA)) for sample in samples.samples]
    assert len(set(wanted)) >= distinct
    right = [model.assess(samples.window(i)).raw == text for i, text in enumerate(wanted)]
    assert np.mean(right) >= 0.95, f"{np.mean(right):.3f} right"
