"""A protocol: everything that determines an evaluation, written down before it runs.

Proof seeds (`failsafe.records.seeds`) are evaluated by a protocol only. It freezes the configuration of the
study with the fingerprints of weights and code, the thresholds, the primary end point and the budget. Commit
the file, then run it once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from failsafe.datasets.files import write_atomically
from failsafe.errors import UserError
from failsafe.evaluation.code import differences, study_code
from failsafe.evaluation.config import StudyConfig, rename_assist_seconds, study_items
from failsafe.evaluation.results import Frozen, Results
from failsafe.evaluation.study import counting, run_study
from failsafe.execution.contract import Executor
from failsafe.models.loading import fingerprint
from failsafe.policies.loading import policy_fingerprint
from failsafe.records import codec
from failsafe.records.files import read_text
from failsafe.records.provenance import command_line
from failsafe.records.seeds import RANGES, SeedRole, role_of, text_of
from failsafe.sources import own_sources


@dataclass(frozen=True)
class Protocol:
    """The plan of an evaluation.

    Attributes:
        config: The study, with the fingerprints of weights and code and all thresholds.
        end_point: The primary end point, in words: the comparison and the figure that decides.
        budget_hours: Hours of computation that the run may take.
        command: Command that wrote the file.
        sources: Fingerprint of FailSafe's own source.

    Raises:
        UserError: If the seeds are not proof seeds, there is no end point, or the budget is not above 0.
    """

    FORMAT: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[str, codec.Migration]] = {"Protocol/1": rename_assist_seconds}

    config: StudyConfig
    end_point: str
    budget_hours: float
    command: str = ""
    sources: str = ""

    def __post_init__(self) -> None:
        """Validate the fields."""
        seeds = range(self.config.first_seed, self.config.last_seed)
        if (role := role_of(seeds)) is not SeedRole.PROOF:
            raise UserError(
                f"expected proof seeds in a protocol, some of {text_of(RANGES[SeedRole.PROOF][0])}, got "
                f"{text_of(seeds)}, which are for '{role.value}'"
            )
        if not self.end_point.strip():
            raise UserError("expected the primary end point of a protocol in words, got none")
        if not 0 < self.budget_hours < math.inf:
            raise UserError(f"expected a budget above 0 hours, got {self.budget_hours}")


def write_protocol(path: Path, protocol: Protocol) -> None:
    """Write a protocol as JSON that can be read and compared line by line.

    Args:
        path: The file; one that exists is not overwritten.
        protocol: The protocol.

    Raises:
        UserError: If the file exists.
        StoreError: If it cannot be written.
    """
    if path.exists():
        raise UserError(f"expected a new file for a protocol, got {path}, which exists: choose another name")
    plain = json.loads(codec.dumps(protocol))
    write_atomically(path, (json.dumps(plain, indent=1, sort_keys=True) + "\n").encode())


def read_protocol(path: Path) -> tuple[Protocol, str]:
    """Read a protocol.

    Args:
        path: A file that `write_protocol` wrote.

    Returns:
        The protocol, and the SHA-256 of the file.

    Raises:
        UserError: If the file cannot be read, or the protocol makes no sense.
        RecordError: If it is damaged or of another version.
    """
    absent = f"expected a protocol made by `failsafe evaluate` with a file to freeze it in, got {path}"
    text = read_text(path, absent)
    return codec.loads(Protocol, text, str(path)), hashlib.sha256(text.encode()).hexdigest()


def freeze(config: StudyConfig, end_point: str, budget_hours: float) -> Protocol:
    """Return the protocol of a study whose policies, tasks and model are all given by name.

    Args:
        config: Configuration of the study.
        end_point: The primary end point.
        budget_hours: Hours of computation that the run may take.

    Raises:
        UserError: As `Protocol`, or if something was given as an object.
    """
    for what in (config.weights, *config.policy_weights.values(), *config.code.values()):
        if what.startswith("python:"):
            raise UserError(
                "expected policies, tasks and a recovery model by name in a protocol, got an object "
                f"({what.removeprefix('python:').partition(' ')[0]}): give MODULE:ATTRIBUTE"
            )
    return Protocol(config, end_point, budget_hours, command_line(), own_sources())


def run_protocol(
    path: Path,
    out: Path,
    executor: Executor,
    shard: tuple[int, int] = (0, 1),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Results:
    """Run exactly what a protocol says, or what is missing of it.

    Args:
        path: File of the protocol.
        out: Folder of the results.
        executor: Runs the episodes.
        shard: Part (i, n) of the evaluation to run here, i from 0.
        on_progress: Called with the number of initial states done so far, and of all.

    Returns:
        The results, which record the SHA-256 of the file.

    Raises:
        UserError: If weights or code are not those that the protocol froze.
        StoreError: If the folder holds something else, or the run of another protocol.
        FailSafeError: If a policy, the model or a task cannot be loaded.
    """
    protocol, digest = read_protocol(path)
    config = protocol.config
    now = dataclasses.replace(
        config,
        weights=fingerprint(config.monitor),
        policy_weights={policy: policy_fingerprint(policy) for policy in config.policies},
        code=study_code(config.tasks, config.scenarios, config.conditions),
    )
    if changed := differences(config, now):
        raise UserError(
            f"expected what {path} froze, got another state of {', '.join(changed)}: restore it, or freeze a "
            "new protocol and say why"
        )
    if protocol.sources != own_sources():
        raise UserError(
            f"expected FailSafe's source as {path} froze it, got another: restore it, or freeze a new "
            "protocol and say why"
        )
    frozen = Frozen(digest, protocol.end_point, protocol.budget_hours)
    count = counting(on_progress, len(study_items(config, shard)))
    return run_study(config, out, executor, count, shard, frozen=frozen)
