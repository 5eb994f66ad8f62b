"""Tiny checkpoints of the real classes, for tests."""

from tests.models.llava.made_up import MadeUpSamples

from failsafe.models.llava.answer import answer_of, format_answer
from failsafe.models.llava.prompt import prompt_text
from failsafe.models.llava.tiny import make_tiny
from failsafe.records.embodiment import MANISKILL_PANDA
from failsafe.training.llava import train_llava
from failsafe.training.llava_config import LlavaTrainConfig


def texts_of(samples):
    windows = [prompt_text(samples.window(i)) for i in range(len(samples.samples))]
    return windows + [format_answer(answer_of(sample, MANISKILL_PANDA)) for sample in samples.samples]


def make_base(folder, count=64):
    """Random weights, and a tokenizer that knows the samples' words."""
    make_tiny(folder, texts_of(MadeUpSamples(count)))
    return folder


def quick(model, **settings):
    """Settings that train a tiny model fast."""
    fast = dict(batch=4, accumulation=1, learning_rate=3e-3, workers=0, recompute=False, log_every=1000)
    return LlavaTrainConfig(model=str(model), **{**fast, "lora": False, "save_every": 1000, **settings})


def make_trained(base, folder, count=4, steps=60):
    """Knows the first few samples by heart."""
    train_llava(MadeUpSamples(count), quick(base, steps=steps), folder, lambda line: None)
    return folder
