import json

import pytest
from PIL import Image

from failsafe.errors import UserError
from failsafe.training.mixture import Mix, Turn, VisualQuestion, mixed_order, parse_mix, read_questions


@pytest.fixture
def write(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)

    def write(rows, name="vqa.json"):
        path = tmp_path / name
        text = rows if isinstance(rows, str) else json.dumps(rows)
        path.write_text(text)
        return path

    return write


def row(*said, image="a.png"):
    turns = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(said)]
    return {"id": "1", "image": image, "conversations": turns}


def test_a_conversation_is_as_many_examples_as_answers(write, tmp_path):
    path = write([row("<image>\nHow many?", "Two.", "Where?", "There.")])
    found, without = read_questions(path)
    assert without == 0
    first, second = found
    assert first == VisualQuestion((tmp_path / "a.png",), (Turn("user", "How many?", 1),), "Two.")
    assert second.turns == (Turn("user", "How many?", 1), Turn("assistant", "Two."), Turn("user", "Where?"))
    assert second.answer == "There."
    assert second.messages()[0] == {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "How many?"}],
    }


def test_one_object_a_line(write):
    # JSON allows a line separator of Unicode within a text.
    lines = [row("<image>\nHow many?", "Two\u2028or three."), row("What is this? <image>", "A cat.")]
    path = write("\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n", "vqa.jsonl")
    found, _ = read_questions(path)
    assert [question.answer for question in found] == ["Two\u2028or three.", "A cat."]
    assert found[1].turns == (Turn("user", "What is this?", 1),)


def test_several_pictures_at_several_times(write, tmp_path):
    path = write([row("<image><image>\nDiffer?", "Yes.", image=["a.png", "b.png"])])
    (question,), _ = read_questions(path)
    assert question.images == (tmp_path / "a.png", tmp_path / "b.png")
    path = write([row("<image>\nThis?", "A.", "And <image>?", "B.", image=["a.png", "b.png"])])
    one, two = read_questions(path)[0]
    assert [len(question.images) for question in (one, two)] == [1, 2]


def test_rows_without_pictures_are_counted(write):
    text_only = {"id": "2", "conversations": row("Hello", "Hi.")["conversations"]}
    found, without = read_questions(write([row("<image>\nHow many?", "Two."), text_only]))
    assert (len(found), without) == (1, 1)
    with pytest.raises(UserError, match="expected questions with images"):
        read_questions(write([text_only]))


@pytest.mark.parametrize(
    ("rows", "because"),
    [
        (
            [row("<image>\nHow many?", "Two.", image="c.png")],
            r"row 1: expected an image at .*c\.png, got none",
        ),
        ([row("How many?", "Two.")], r"row 1: expected as many <image> as images \(1\), got 0"),
        ([row("<image>\nHow many?")], "a question and an answer"),
        ([row("<image>\nHow many?", "Two.", "Sure?")], "human and gpt in turns"),
        ([row("Look", "<image>")], "in questions only"),
        ([row("<image>\nHow many?", "Two."), 7], "row 2: expected a JSON object, got int"),
        ([{"image": 7, "conversations": []}], "'image' to be a file name"),
        ([{"image": "a.png", "conversations": [{"from": "bot", "value": "x"}] * 2}], "human or gpt"),
        ("[1", "expected a JSON list"),
        ('{"id": 1}\n{"id"', "line 2: expected a JSON object"),
    ],
)
def test_files_that_are_not_as_they_must_be(write, rows, because):
    with pytest.raises(UserError, match=because):
        read_questions(write(rows))


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="expected a file of visual questions at"):
        read_questions(tmp_path / "none.json")


def test_mix():
    assert parse_mix("C:/data/vqa.jsonl:0.3") == Mix(parse_mix("C:/data/vqa.jsonl:0.3").path, 0.3)
    for bad in ("vqa.jsonl", "vqa.jsonl:", "vqa.jsonl:1.0", "vqa.jsonl:0", "vqa.jsonl:nan", ":0.3"):
        with pytest.raises(UserError, match="FILE:SHARE"):
            parse_mix(bad)


def test_shares_by_hand():
    order = mixed_order(70, 50, 0.3, seed=0)
    assert len(order) == 100
    others = [index for own, index in order if not own]
    assert len(others) == len(set(others)) == 30
    assert [index for own, index in order if own] == list(range(70))
    assert mixed_order(70, 50, 0.3, seed=0) == order != mixed_order(70, 50, 0.3, seed=1)
    # Too few others: each as often as any other, or once more.
    few = [index for own, index in mixed_order(70, 4, 0.3, seed=0) if not own]
    assert sorted(few.count(i) for i in range(4)) == [7, 7, 8, 8]
    assert mixed_order(5, 0, 0.0, seed=0) == [(True, i) for i in range(5)]
