from importlib.util import find_spec

from tests.models.llava.conftest import base, trained  # noqa: F401 -- fixtures

# What cannot be imported without the extra [vlm].
collect_ignore_glob = [] if find_spec("trl") else ["test_llava*.py"]
