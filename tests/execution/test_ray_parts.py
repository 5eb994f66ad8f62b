"""Parts of the executor for Ray that need no Ray."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from tests.execution.jobs import Marks

from failsafe.cli.execution import Execution
from failsafe.errors import UserError
from failsafe.execution.ray_executor import RayExecutor, _Items
from failsafe.execution.ray_worker import check_same_software
from failsafe.execution.retries import MAX_LOST, Retries
from failsafe.records.provenance import Provenance

HERE = Provenance("commit", False, {"python": "3.11.2", "numpy": "2.4.0"}, "Linux", sources="abc")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"got none installed: pip install 'failsafe-vla\[ray\]'"):
        RayExecutor()


def test_an_address_goes_with_ray() -> None:
    with pytest.raises(UserError, match="expected --executor ray with --ray-address, got the executor 'proc"):
        Execution(ray_address="auto").load()
    chosen = Execution(3, "ray", "auto").load()
    assert isinstance(chosen, RayExecutor)
    assert (chosen.workers, chosen.address) == (3, "auto")


def test_a_node_with_other_software_is_refused() -> None:
    check_same_software(HERE, replace(HERE, commit="another", dirty=True, platform="Linux-x"))
    with pytest.raises(UserError, match=r"got numpy 2\.3\.1 in place of 2\.4\.0 on "):
        check_same_software(HERE, replace(HERE, versions={"python": "3.11.2", "numpy": "2.3.1"}))
    with pytest.raises(UserError, match=r"got numpy missing in place of 2\.4\.0 on "):
        check_same_software(HERE, replace(HERE, versions={"python": "3.11.2"}))
    with pytest.raises(UserError, match="got another source of FailSafe on "):
        check_same_software(HERE, replace(HERE, sources="xyz"))


def test_an_item_that_was_given_up_in_part_waits_for_a_worker_that_knows() -> None:
    items = _Items(["a", "b"])
    assert items.left == 2
    assert items.take(0) == "a"
    items.put_back("a", 1)
    assert items.left == 2
    assert [items.take(0), items.take(0), items.take(0)] == ["b", None, None]
    assert items.left == 1
    assert [items.take(1), items.take(1)] == ["a", None]
    unknown = _Items(item for item in "ab")
    assert unknown.left > 2
    assert [unknown.take(0), unknown.take(0), unknown.take(0)] == ["a", "b", None]
    assert unknown.left == 0


class GivesUp:
    folders = ()

    def run(self, item: str, reporter: object = None) -> None: ...

    def give_up(self, item: str, part: str = "") -> bool:
        return False


def test_a_node_that_dies_is_not_blamed_on_its_item_unless_it_happens_again_and_again() -> None:
    retries = Retries(GivesUp())
    assert [retries.lost("a", "one") for _ in range(MAX_LOST + 1)] == [True] * MAX_LOST + [False]
    assert retries.lost("a", "two")
    assert retries.crashed("a", "one"), "and then it has two tries, as after a crash"
    assert not retries.crashed("a", "one")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://127.0.0.1:10001", "expected the address HOST:PORT of a cluster that this machine belongs to"),
        ("127.0.0.1:1", "expected a Ray cluster at '127.0.0.1:1', got an error .*refused"),
        ("127.0.0.1:port", "expected a Ray cluster at '127.0.0.1:port', got an error"),
    ],
)
def test_an_address_without_a_cluster_is_one_sentence(address: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        RayExecutor(1, address).run(Marks(tmp_path), ["first"])


def test_without_items_no_cluster_is_needed(tmp_path: Path) -> None:
    RayExecutor(1, "127.0.0.1:1").run(Marks(tmp_path), [])
