import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.llava.made_up import SPEC, make_sample, make_window
from tests.models.llava.server import Server, completion, images_of

from failsafe.errors import AssessmentError, UserError
from failsafe.models.conformance import check_model
from failsafe.models.contract import RecoveryModel, assess_safely
from failsafe.models.llava import checkpoint
from failsafe.models.llava.answer import PREFIX, answer_of, format_answer
from failsafe.models.llava.card import CARD, LlavaCard, read_card, write_card
from failsafe.models.llava.endpoint import EndpointModel
from failsafe.models.llava.model import LlavaModel, decision_tokens
from failsafe.models.llava.prompt import messages, window_images
from failsafe.records.assessment import Status
from failsafe.records.embodiment import MANISKILL_PANDA


@pytest.fixture(scope="module")
def model(trained):
    return LlavaModel(trained, "cpu")


@pytest.fixture(scope="module")
def parts(trained):
    """Processor and weights, to do by hand what the model does."""
    return checkpoint.load_processor(str(trained)), checkpoint.load_model(str(trained), torch.float32).eval()


def spell(parts, images, text):
    """Greedy, token by token, from nothing but the prompt, the whole sequence anew each time."""
    processor, weights = parts
    inputs = processor(images=[images], text=[text], return_tensors="pt")
    found = []
    for _ in range(100):
        with torch.inference_mode():
            logits = weights(**inputs).logits[0, -1].float()
        logprobs = torch.log_softmax(logits, -1)
        top = logprobs.topk(20)
        best = int(top.indices[0])
        listed = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        others = {processor.tokenizer.decode([i]): p for i, p in listed}
        found.append((processor.tokenizer.decode([best]), float(top.values[0]), others))
        if best == processor.tokenizer.eos_token_id:
            break
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[best]])], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return found


def chat(parts, window):
    return parts[0].apply_chat_template(messages(window), add_generation_prompt=True, tokenize=False)


@pytest.mark.parametrize("index", range(4))
def test_it_says_what_it_learned(model, index):
    assessment = model.assess(make_window(index))
    sample = make_sample(index)
    assert assessment.raw == format_answer(answer_of(sample, MANISKILL_PANDA))
    assert assessment.status is Status.OK
    assert assessment.failing == sample.failing
    assert assessment.stage == sample.stage
    assert assessment.mode == sample.mode
    assert np.allclose(assessment.actions, sample.actions)
    assert assessment.explanation.startswith("Failing" if sample.failing else "All is well")
    assert (assessment.mode_probability > 0.5) == sample.failing


def test_it_keeps_the_contract(model):
    assert isinstance(model, RecoveryModel)
    assert model.name == "trained"
    assert model.window_spec == SPEC
    # Of the last ones it has seen neither the images nor the like.
    checks = check_model(model, [make_window(index) for index in (0, 1, 3, 9)])
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_probability_is_that_of_the_two_logits(model, parts, index):
    window = make_window(index)
    processor, weights = parts
    inputs = processor(
        images=[window_images(window)], text=[chat(parts, window) + PREFIX], return_tensors="pt"
    )
    with torch.inference_mode():
        logits = weights(**inputs).logits[0, -1].double()
    yes, no = (logits[processor.tokenizer.convert_tokens_to_ids(word)].item() for word in ("yes", "no"))
    assessment = model.assess(window)
    assert assessment.failure_probability == pytest.approx(1 / (1 + math.exp(no - yes)), abs=1e-5)


def test_images_matter(model):
    one, other = make_window(0), make_window(1)
    assert (one.tcp_poses == other.tcp_poses).all()
    swapped = dataclasses.replace(one, frames=other.frames)
    assert model.assess(swapped).raw == model.assess(other).raw != model.assess(one).raw


def test_half_an_answer_is_unreadable(trained):
    assessment = LlavaModel(trained, "cpu", max_tokens=6).assess(make_window(1))
    assert assessment.status is Status.UNREADABLE
    assert assessment.raw.startswith(PREFIX)
    assert not assessment.failing
    assert not assessment.actions


def test_gibberish_is_unreadable(base, tmp_path):
    untrained = shutil.copytree(base, tmp_path / "untrained")
    write_card(untrained, LlavaCard(SPEC))
    assessment = LlavaModel(untrained, "cpu", max_tokens=16).assess(make_window(1))
    assert assessment.status is Status.UNREADABLE
    assert assessment.reason


def test_bad_windows(model):
    window = make_window(0)
    with pytest.raises(AssessmentError, match="views"):
        model.assess(make_window(0, dataclasses.replace(SPEC, views=("front",))))
    poses = window.tcp_poses.copy()
    poses[0, 0] = np.nan
    broken = dataclasses.replace(window, tcp_poses=poses)
    with pytest.raises(AssessmentError, match="NaN"):
        model.assess(broken)
    assessment = assess_safely(model, broken)
    assert assessment.status is Status.REFUSED
    assert "NaN" in assessment.reason


def test_instructions_never_seen(model, trained):
    strange = dataclasses.replace(make_window(0), instruction="Fold the shirt 衣服 <|im_end|><image>")
    with pytest.raises(AssessmentError, match="expected one of the instructions 'Pick up the red cube'"):
        model.assess(strange)
    assert assess_safely(model, strange).status is Status.REFUSED
    anyway = LlavaModel(trained, "cpu", any_instruction=True)
    assert anyway.assess(strange).status in (Status.OK, Status.UNREADABLE)


def test_served_it_says_the_same(parts, model, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def reply(request):
        images, words = images_of(request)
        content = [*[{"type": "image"}] * len(images), {"type": "text", "text": words}]
        asked = [{"role": "user", "content": content}]
        text = parts[0].apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        tokens = spell(parts, images, text)
        # As vLLM does: the token that ends the answer has a log-probability, and is not in the text.
        return completion("".join(token for token, _, _ in tokens[:-1]), tokens)

    with Server(reply) as server:
        served = EndpointModel(server.url, "failsafe-vlm", LlavaCard(SPEC))
        for index in range(4):
            one, other = served.assess(make_window(index)), model.assess(make_window(index))
            assert one.status is Status.OK
            assert one.raw == other.raw
            assert one.actions == other.actions
            assert one.failure_probability == pytest.approx(other.failure_probability, abs=1e-4)
            assert one.mode_probability == pytest.approx(other.mode_probability, abs=1e-4)
        served.close()


class TestCheckpoints:
    def copy(self, trained, tmp_path):
        return shutil.copytree(trained, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoint-*"))

    def test_no_card(self, base):
        with pytest.raises(UserError, match="expected a checkpoint of FailSafe-VLM"):
            LlavaModel(base)

    @pytest.mark.parametrize(
        ("changes", "because"),
        [
            ({"prompt_version": 99}, "got one for version 99"),
            ({"architecture": "Qwen2VLForConditionalGeneration"}, "Qwen2VLForConditionalGeneration"),
            ({"format": "LlavaCard/7"}, "expected format 'LlavaCard/1', got 'LlavaCard/7'"),
            ({"colour": "red"}, "unknown key"),
        ],
    )
    def test_other_cards(self, trained, tmp_path, changes, because):
        folder = self.copy(trained, tmp_path)
        card = json.loads((folder / CARD).read_text())
        (folder / CARD).write_text(json.dumps({**card, **changes}))
        with pytest.raises(UserError, match=because):
            LlavaModel(folder)

    def test_another_architecture(self, trained, tmp_path):
        folder = self.copy(trained, tmp_path)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "qwen2_vl"}))
        with pytest.raises(UserError, match="expected a checkpoint of LLaVA-OneVision"):
            LlavaModel(folder, "cpu")

    def test_pickled_weights_are_not_read(self, trained, tmp_path):
        folder = self.copy(trained, tmp_path)
        (folder / "model.safetensors").unlink()
        torch.save({"made": "up"}, folder / "pytorch_model.bin")
        with pytest.raises(UserError, match="safetensors"):
            LlavaModel(folder, "cpu")

    def test_pickled_adapters_are_not_read(self, trained, base, tmp_path):
        folder = self.copy(trained, tmp_path)
        torch.save({"made": "up"}, folder / "adapter_model.bin")
        write_card(folder, LlavaCard(SPEC, base=str(base)))
        with pytest.raises(UserError, match=r"adapter_model\.safetensors"):
            LlavaModel(folder, "cpu")

    def test_missing_weights(self, trained, tmp_path):
        folder = self.copy(trained, tmp_path)
        weights = load_file(folder / "model.safetensors")
        del weights["language_model.lm_head.weight"]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match="lm_head"):
            LlavaModel(folder, "cpu")

    @pytest.mark.parametrize(
        ("name", "because"),
        [
            ("processor_config.json", "expected the processor"),
            ("chat_template.jinja", "without a chat template"),
            ("tokenizer.json", "expected a tokenizer with a token 'yes'"),
        ],
    )
    def test_no_processor(self, trained, tmp_path, name, because):
        folder = self.copy(trained, tmp_path)
        (folder / name).unlink()
        with pytest.raises(UserError, match=because):
            LlavaModel(folder, "cpu")

    def test_no_whole_words(self):
        class ByLetters:
            def __call__(self, text, add_special_tokens):
                return {"input_ids": [ord(c) for c in text]}

            def decode(self, numbers):
                return "".join(map(chr, numbers))

            def convert_ids_to_tokens(self, numbers):
                return [chr(n) for n in numbers]

        with pytest.raises(UserError, match="expected a tokenizer with a token 'yes'"):
            decision_tokens(ByLetters())

    def test_the_card_reads_back(self, tmp_path):
        card = LlavaCard(SPEC, base="somewhere")
        write_card(tmp_path, card)
        assert read_card(tmp_path) == card
