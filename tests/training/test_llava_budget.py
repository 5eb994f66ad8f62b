import json
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tests.models.llava.checkpoints import quick
from tests.models.llava.made_up import MadeUpSamples
from transformers import LlavaOnevisionProcessor

from failsafe.errors import UnknownNameError, UserError
from failsafe.models.llava import checkpoint
from failsafe.models.llava.architectures import config_of, released_config
from failsafe.records.assessment import WindowSpec
from failsafe.training.budget import (
    TokenBudget,
    _Plain,
    count_image_tokens,
    count_parameters,
    dry_run,
    estimate_tokens,
    lora_parameters,
    measure_tokens,
    memory,
    on_meta,
    steps_of_a_pass,
)
from failsafe.training.examples import Examples
from failsafe.training.llava import LORA_TARGETS
from failsafe.training.llava_config import LlavaTrainConfig

LARGE = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
SPEC = WindowSpec()


@pytest.fixture(scope="module")
def large():
    return on_meta(released_config(LARGE))


def test_the_large_model_takes_no_memory_and_has_8_billion_parameters(large):
    assert {parameter.device.type for parameter in large.parameters()} == {"meta"}
    assert count_parameters(large) == 8_030_807_584
    # By hand: each of 28 layers adapts q, k, v, o, gate, up and down; the projector has two layers.
    layer = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944)
    assert lora_parameters(large, 64) == 64 * (28 * layer + (1152 + 3584) + (3584 + 3584))


def test_tied_weights_count_once():
    small = on_meta(released_config("llava-hf/llava-onevision-qwen2-0.5b-ov-hf"))
    assert count_parameters(small) == 893_675_552


def test_the_plan_of_the_large_model():
    plan = dry_run(MadeUpSamples(160, SPEC), LlavaTrainConfig(model=LARGE), "zero3", 4)
    assert (plan.parameters, plan.gpus, plan.method) == (8_030_807_584, 4, "lora")
    assert plan.trainable == 162_242_560
    assert (plan.tokens.images, plan.tokens.tokens_per_image) == (9, 730)
    assert not plan.tokens.exact
    assert 6570 + 300 < plan.tokens.mean < plan.tokens.most < 6570 + 800
    assert plan.steps == 5  # 160 examples in batches of 4, of which 8 are a step
    first, second, third, fourth = plan.lines()
    assert "8,030,807,584 parameters, of which lora trains 162,242,560" in first
    assert "160 examples of about" in second
    assert "9 images of 730" in second
    assert third == "5 steps; GPUs: 4, strategy: zero3"
    assert fourth.startswith("memory of each GPU: ")


@pytest.mark.parametrize(
    ("lora", "strategy", "gpus", "weights", "gradients", "optimizer"),
    [
        # 16 bits of what is frozen; 32 of weights, gradients and two moments of what is trained.
        (True, "none", 1, 2 * 8_030_807_584 + 4 * 162_242_560, 4 * 162_242_560, 8 * 162_242_560),
        (False, "none", 1, 4 * 8_030_807_584, 4 * 8_030_807_584, 8 * 8_030_807_584),
        (False, "fsdp", 8, 4 * 8_030_807_584 / 8, 4 * 8_030_807_584 / 8, 8 * 8_030_807_584 / 8),
        # 16 bits at hand, 32 with the optimizer.
        (False, "zero3", 8, 2 * 8_030_807_584 / 8, 2 * 8_030_807_584 / 8, 12 * 8_030_807_584 / 8),
    ],
)
def test_memory_by_hand(large, lora, strategy, gpus, weights, gradients, optimizer):
    tokens = TokenBudget(9.0, 730.0, 400.0, 40.0, most=7010, most_image_tokens=6570, exact=True)
    trainable = 162_242_560 if lora else 8_030_807_584
    config = LlavaTrainConfig(model=LARGE, lora=lora)
    budget = memory(large, trainable, tokens, config, strategy, gpus)
    assert budget.weights == pytest.approx(weights)
    assert budget.gradients == pytest.approx(gradients)
    assert budget.optimizer == pytest.approx(optimizer)
    parts = budget.gathered + budget.activations
    assert budget.total == pytest.approx(weights + gradients + optimizer + parts)
    twice = LlavaTrainConfig(model=LARGE, lora=lora, batch=2)
    assert memory(large, trainable, tokens, twice, strategy, gpus).activations == 2 * budget.activations
    kept = LlavaTrainConfig(model=LARGE, lora=lora, recompute=False)
    assert memory(large, trainable, tokens, kept, strategy, gpus).activations > 10 * budget.activations


def test_memory_is_what_training_really_holds(base):
    """Weights, gradients and moments of a tiny model after a step of AdamW, byte for byte."""
    model = checkpoint.load_model(str(base), torch.float32)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    moments = sum(state[k].nbytes for state in optimizer.state.values() for k in ("exp_avg", "exp_avg_sq"))
    tokens = TokenBudget(4.0, 5.0, 250.0, 30.0, most=300, most_image_tokens=20, exact=True)
    config = LlavaTrainConfig(model=str(base), lora=False)
    budget = memory(model, count_parameters(model), tokens, config, "none", 1)
    assert (budget.weights, budget.gradients, budget.optimizer) == (held, held, moments)


def test_adapters_have_the_size_that_is_told(base):
    from peft import LoraConfig, get_peft_model

    model = checkpoint.load_model(str(base), torch.float32)
    expected = lora_parameters(model, 4)
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=LORA_TARGETS))
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == expected > 0


def test_measured_tokens_are_those_of_the_batches(base):
    samples, processor = MadeUpSamples(40), checkpoint.load_processor(str(base))
    examples = Examples(samples, processor)
    tokens = measure_tokens(examples, processor)
    lengths = [
        len(processor(images=[e.images], text=[e.prompt + e.completion])["input_ids"][0]) for e in examples
    ]
    assert (tokens.images, tokens.tokens_per_image, tokens.exact) == (4, 5, True)
    assert tokens.most_image_tokens == 4 * 5
    assert min(lengths) <= tokens.mean <= tokens.most <= max(lengths)
    assert tokens.mean == pytest.approx(sum(lengths) / len(lengths), rel=0.05)


def test_a_lone_picture_is_looked_at_twice(base):
    spec = WindowSpec(views=("front",), history=1, frames=1, size=28)
    samples, processor = MadeUpSamples(3, spec), checkpoint.load_processor(str(base))
    tokens = measure_tokens(Examples(samples, processor), processor)
    assert tokens.tokens_per_image == count_image_tokens(config_of(str(base)), 1, 28, 28) == 4 + 2 * 3
    large = released_config(LARGE)
    assert count_image_tokens(large, 1, 96, 96) == count_image_tokens(large, 1, 384, 384) == 729 + 27 * 28
    assert count_image_tokens(large, 2, 384, 384) == 730


@pytest.mark.parametrize("size", [(384, 384), (96, 96), (480, 640), (1080, 1920), (300, 1700), (2300, 2300)])
def test_lone_pictures_of_any_size_take_what_the_processor_gives_them(size):
    config = released_config(LARGE)
    processor = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    processor.image_processor = SimpleNamespace(image_grid_pinpoints=config.image_grid_pinpoints)
    processor.num_image_tokens, processor.vision_aspect_ratio = 729, "anyres_max_9"
    assert count_image_tokens(config, 1, *size) == processor._get_number_of_features(*size, 384, 384)


def test_the_plan_of_a_model_that_is_here(base):
    plan = dry_run(MadeUpSamples(10), quick(base, steps=6))
    assert plan.tokens.exact
    assert (
        plan.parameters == plan.trainable == count_parameters(checkpoint.load_model(str(base), torch.float32))
    )
    assert plan.steps == 6


@pytest.mark.parametrize(
    ("examples", "batch", "accumulation", "gpus", "steps"),
    [(64, 1, 8, 1, 8), (65, 1, 8, 1, 9), (64, 2, 4, 4, 2), (64, 1, 1, 1, 64), (3, 1, 8, 1, 1)],
)
def test_steps_by_hand(examples, batch, accumulation, gpus, steps):
    assert steps_of_a_pass(examples, batch, accumulation, gpus) == steps


def test_estimates_of_words_are_near_the_truth(base):
    samples, processor = MadeUpSamples(16), checkpoint.load_processor(str(base))
    about = estimate_tokens(Examples(samples, _Plain()), config_of(str(base)))
    measured = measure_tokens(Examples(samples, processor), processor)
    assert math.isclose(about.text, measured.text, rel_tol=0.25)
    assert about.tokens_per_image == measured.tokens_per_image
    assert about.images == measured.images


def test_a_mixture_is_planned_without_the_model(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "one.png")
    said = [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": "Two."}]
    (tmp_path / "vqa.json").write_text(json.dumps([{"image": "one.png", "conversations": said}]))
    config = LlavaTrainConfig(model=LARGE, mix=f"{tmp_path}/vqa.json:0.5")
    plan = partial(dry_run, MadeUpSamples(6))
    alone, mixed = plan(replace(config, mix="")), plan(config)
    assert (alone.examples, mixed.examples) == (6, 12)
    assert not mixed.tokens.exact
    # Half of the examples have four images, half of them one, which is larger than those.
    assert mixed.tokens.images == 2.5
    lone = count_image_tokens(released_config(LARGE), 1, 480, 640)
    assert mixed.tokens.tokens_per_image == pytest.approx((4 * 730 + lone) / 5)
    assert mixed.tokens.text < alone.tokens.text
    # Memory is planned for the example with most: a lone image of 729 and 55 x 40 tokens, here.
    assert (alone.tokens.most_image_tokens, mixed.tokens.most_image_tokens) == (4 * 730, lone)
    full = replace(config, lora=False)
    assert plan(full).memory.activations > plan(replace(full, mix="")).memory.activations
    with pytest.raises(UserError, match="expected a file of visual questions"):
        dry_run(MadeUpSamples(6), LlavaTrainConfig(model=LARGE, mix="nowhere.jsonl:0.2"))


def test_bad_plans(base):
    samples = MadeUpSamples(4)
    with pytest.raises(UnknownNameError, match="did you mean 'llava-hf/llava-onevision-qwen2-7b-ov-hf'"):
        dry_run(samples, LlavaTrainConfig(model="llava-hf/llava-onevision-qwen2-7b"))
    with pytest.raises(UnknownNameError, match="unknown strategy 'zero2': did you mean 'zero3'"):
        dry_run(samples, LlavaTrainConfig(model=LARGE), "zero2")
    with pytest.raises(UserError, match="at least one GPU"):
        dry_run(samples, LlavaTrainConfig(model=LARGE), "none", 0)
    with pytest.raises(UserError, match="expected samples with images, of the split train"):
        dry_run(MadeUpSamples(0, tests=2), LlavaTrainConfig(model=LARGE))
