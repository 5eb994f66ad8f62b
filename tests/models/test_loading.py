import hashlib
import re
from dataclasses import dataclass

import pytest
from tests.models.made_up import SPEC

from failsafe.errors import UserError
from failsafe.models.loading import SHIPPED, fingerprint, load_model
from failsafe.records.assessment import Assessment
from failsafe.sources import fingerprint_of_module


@dataclass
class Own:
    """A model of one's own, as in `--monitor tests.models.test_loading:Own`."""

    any_instruction: bool = False
    name = "own"
    window_spec = SPEC

    def assess(self, window):
        return Assessment()


class Fixed(Own):
    def __init__(self):
        super().__init__()


class Needy(Own):
    def __init__(self, probability, more):
        pass


class Half:
    name = "half"


def test_a_class_of_ones_own():
    assert not load_model(f"{__name__}:Own").any_instruction
    assert load_model(f"{__name__}:Own", any_instruction=True).any_instruction
    assert load_model(f"{__name__}:Fixed", any_instruction=True).name == "own"
    model = Own()
    assert load_model(model) is model


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "compct",
            "expected compact, compact-metaworld, openai+http, openai+https, MODULE:CLASS, a checkpoint",
        ),
        ("no/such/folder", "got 'no/such/folder'"),
        ("no_such_module:Own", "No module named 'no_such_module'"),
        (f"{__name__}:Nobody", "has no attribute 'Nobody'"),
        (f"{__name__}:Needy", "expected a recovery model that can be made without arguments"),
        (f"{__name__}:Half", "expected a failsafe.models.contract.RecoveryModel"),
        (f"{__name__}:Half", "missing: assess, window_spec"),
        ("openai+http://127.0.0.1:1/v1", "expected the model's name on the server"),
        ("openai+http:127.0.0.1/v1?model=m", "expected openai+http://HOST:PORT"),
        ("openai+http://me:secret@127.0.0.1:1/v1?model=m", "without a user name"),
        (
            "openai+http://127.0.0.1:1/v1?model=m&siez=1",
            "unknown key of openai+http 'siez': did you mean 'size'",
        ),
        ("openai+http://127.0.0.1:1/v1?model=m&size=big", "expected a number for size, got 'big'"),
    ],
)
def test_names_of_no_model(name, words):
    with pytest.raises(UserError, match=re.escape(words)):
        load_model(name)


def test_a_model_is_known_by_its_weights_code_or_address(tmp_path):
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(SHIPPED["compact"].read_bytes())
    assert (
        fingerprint("compact")
        == fingerprint(str(copy))
        == hashlib.sha256(SHIPPED["compact"].read_bytes()).hexdigest()
    )
    source = fingerprint_of_module(__name__)
    assert fingerprint(f"{__name__}:Own") == source
    assert fingerprint(Own()) == f"python:{__name__}.Own {source}"
    assert fingerprint("openai+https://host/v1?model=a&card=x") == "a at https://host/v1"
    assert fingerprint(str(tmp_path / "nothing")) == ""
    with pytest.raises(UserError, match="No module named 'no_such_module'"):
        fingerprint("no_such_module:Own")


def test_a_file_with_a_colon_in_its_name_is_a_checkpoint(tmp_path):
    copy = tmp_path / "12:30.safetensors"
    copy.write_bytes(SHIPPED["compact"].read_bytes())
    assert load_model(str(copy)).name == load_model("compact").name
    assert fingerprint(str(copy)) == fingerprint("compact")
