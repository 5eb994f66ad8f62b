"""A cluster of two nodes, one of which is killed in mid-run."""

from __future__ import annotations

import gc
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.datasets.test_build import content, small

from failsafe.datasets.build import build_dataset
from failsafe.execution.ray_cluster import ALWAYS, LOOPBACK, TOKEN, disconnect
from failsafe.execution.ray_executor import RayExecutor
from failsafe.execution.serial import SerialExecutor
from failsafe.generation.partition import Progress

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra [ray]"),
]
QUICK_TO_NOTICE = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster whose head, which is this process's node, has one CPU."""
    for name, value in {**ALWAYS, **LOOPBACK, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    disconnect()
    from ray.cluster_utils import Cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray does not wait for the processes that it ends
        head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20}
        made = Cluster(initialize_head=True, head_node_args={**head, "_system_config": QUICK_TO_NOTICE})
        yield made
        disconnect()
        made.shutdown()
        gc.collect()


def test_a_node_that_dies_in_mid_run_changes_no_byte(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    progress: list[Progress] = []
    killed = False

    def kill(made: Progress) -> None:
        nonlocal killed
        progress.append(made)
        # Both workers are in the middle of a partition.
        if not killed and {p.partition for p in progress if p.category != "nominal"} == {0, 1}:
            cluster.remove_node(node, allow_graceful=False)
            killed = True

    config = small(12, partitions=2)
    build_dataset(config, tmp_path / "ray", kill, RayExecutor(2, cluster.address))
    assert killed
    assert any(made.resumed for made in progress), "the other node went on with what was stored"
    build_dataset(config, tmp_path / "serial", executor=SerialExecutor())
    assert content(tmp_path / "ray") == content(tmp_path / "serial")


def test_a_run_goes_on_where_a_node_joins(cluster: Any, tmp_path: Path) -> None:
    """The only node with a free CPU dies, then another one joins."""
    taken = importlib.import_module("ray")
    taken.init(address=cluster.address, log_to_driver=False)
    keeper = taken.remote(type("Keeper", (), {"ready": lambda self: True})).options(num_cpus=1).remote()
    assert taken.get(keeper.ready.remote())
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=80 << 20)]

    def kill(_: object) -> None:
        if len(nodes) == 1:
            cluster.remove_node(nodes[0], allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1, object_store_memory=80 << 20))

    build_dataset(small(4), tmp_path / "ray", kill, RayExecutor(1, cluster.address))
    assert len(nodes) == 2
    build_dataset(small(4), tmp_path / "serial", executor=SerialExecutor())
    assert content(tmp_path / "ray") == content(tmp_path / "serial")
