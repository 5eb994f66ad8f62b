from importlib.util import find_spec

import pytest

# What cannot be imported without the extra [vlm].
collect_ignore = (
    []
    if find_spec("trl") and find_spec("httpx")
    else ["test_endpoint.py", "test_guarding.py", "test_model.py"]
)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A tiny LLaVA-OneVision that has learned nothing."""
    from tests.models.llava.checkpoints import make_base

    return make_base(tmp_path_factory.mktemp("llava") / "base")


@pytest.fixture(scope="session")
def trained(base, tmp_path_factory):
    """A checkpoint that knows four samples by heart."""
    from tests.models.llava.checkpoints import make_trained

    return make_trained(base, tmp_path_factory.mktemp("llava") / "trained")
