"""Connect to a Ray cluster, or start Ray on this machine."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

from failsafe.errors import UserError
from failsafe.execution.threads import single_threaded

ADDRESS = "RAY_ADDRESS"
"""Ray's own environment variable for the address of a cluster."""
OBJECT_STORE = 256 << 20
"""Memory of the object store of a Ray on this machine, bytes. A message is on it until it is read."""
TOKEN = secrets.token_hex(32)
"""What Ray on this machine asks every connection for. It is in no file."""
LOOPBACK = {
    # On Linux, Ray listens on all interfaces; with this it takes the loopback address as on macOS. Ray reads
    # it when it is imported.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # On SIGTERM while it starts, Ray would first wait for work that there is none of.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}
"""Environment of a Ray on this machine."""
ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray prints the death of each worker to standard output, where JSON may be expected. The results say what
    # was lost.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    # Workers see the GPUs, as processes do: no item reserves one.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Environment of every use of Ray, unless the user has set it."""
CONNECT_SECONDS = 10.0
"""Longest time to wait for an answer from the address of a cluster, seconds."""
TERMINATED = 128 + signal.SIGTERM
"""Exit status after SIGTERM, as shells have it."""
_LONGEST_FOLDER = 40
"""Ray puts sockets into its temporary folder, and a socket's path has at most 107 characters."""

_local_cpus = 0
_folder: Path | None = None
"""The temporary folder of a Ray of this process."""


def require_ray() -> None:
    """Check that Ray is installed.

    Raises:
        UserError: If it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            "expected Ray for the executor 'ray', got none installed: pip install 'failsafe-vla[ray]'"
        )


def connect(address: str | None, workers: int | None) -> Any:
    """Connect this process to Ray, unless it is connected.

    Ray on this machine listens on the loopback interface, and ends with this process.

    Args:
        address: Address of a cluster, "auto" for the one of this machine; None to start Ray here, unless
            `ADDRESS` is set in the environment.
        workers: CPUs of a Ray that is started here; None for the number of cores.

    Returns:
        The module `ray`.

    Raises:
        UserError: If there is no cluster at the address, or Ray does not start.
    """
    global _local_cpus
    require_ray()
    address = address or os.environ.get(ADDRESS)
    if address and address.startswith("ray://"):
        raise UserError(
            f"expected the address HOST:PORT of a cluster that this machine belongs to, got {address}: run "
            "the command on a node of the cluster, with the address 'auto'"
        )
    local = not address or address == "local"
    if address and ":" in address:
        _check_port(address)
    os.environ.update({name: value for name, value in ALWAYS.items() if name not in os.environ})
    with _environment({**LOOPBACK, "RAY_AUTH_TOKEN": TOKEN} if local else {}):
        ray: Any = importlib.import_module("ray")
        cpus = workers or os.cpu_count() or 1
        if local and 0 < _local_cpus < cpus:
            disconnect()
        if ray.is_initialized():
            return ray
        try:
            if local:
                _start(ray, cpus)
                _local_cpus = cpus
            else:
                _init(ray, address=address)
        except Exception as error:  # Ray raises plain ones, too: a node that does not start within 30 s
            said = str(error).strip().splitlines()
            where = "Ray to start on this machine" if local else f"a Ray cluster at '{address}'"
            how = "see `failsafe doctor`" if local else "start one with `ray start --head`"
            raise UserError(
                f"expected {where}, got an error ({said[0] if said else type(error).__name__}): {how}"
            ) from error
    return ray


def _check_port(address: str) -> None:
    """Check that something answers at an address: Ray would try for many minutes.

    Raises:
        UserError: If nothing does.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS):
            return
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"expected a Ray cluster at '{address}', got an error ({error}): start one with "
            "`ray start --head`"
        ) from error


def disconnect() -> None:
    """Leave the cluster, and end a Ray that this process started; does nothing if there is none."""
    global _local_cpus, _folder
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)
    _local_cpus, _folder = 0, None


def _start(ray: Any, cpus: int) -> None:
    global _folder
    parent = tempfile.gettempdir()
    _folder = Path(tempfile.mkdtemp(prefix="ray-", dir=parent if len(parent) < _LONGEST_FOLDER else "/tmp"))
    atexit.register(disconnect)  # before Ray's own, which leaves the folder
    with single_threaded():  # workers inherit the environment
        _init(
            ray,
            address="local",
            num_cpus=cpus,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            _temp_dir=str(_folder),
        )


def _init(ray: Any, **options: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    except SystemExit:  # raised by Ray's handler of SIGTERM
        _exit()
    finally:
        # Ray's handlers abort the process. With the one that was there, or this one, it ends in order.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _exit if before in (None, signal.SIG_DFL) else before)


def _exit(*_: object) -> NoReturn:
    raise SystemExit(TERMINATED)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Generator[None, None, None]:
    """Set variables in the context, except those that the user has set; forget what Ray sets."""
    before = dict(os.environ)
    os.environ.update({name: value for name, value in values.items() if name not in before})
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
