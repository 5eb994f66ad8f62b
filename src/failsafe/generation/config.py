"""The configuration of a dataset: one frozen record that determines the content."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from failsafe.errors import UnknownNameError, UserError
from failsafe.perturbations import MODES
from failsafe.perturbations.distributions import Distribution, Uniform, parse_distribution
from failsafe.records.files import read_text
from failsafe.records.names import LAST_SEED
from failsafe.records.seeds import check_unmixed

_LARGEST_YAML = 1 << 15
"""Largest file of modes that is read, bytes."""
PARTITIONS = 16
"""Independent parts of a run, by default. A shard is a set of partitions."""


@dataclass(frozen=True)
class ModeConfig:
    """How one mode is drawn.

    Attributes:
        weight: Share of the failures, relative to the other modes.
        magnitude: Distribution of the magnitude's size, in the mode's unit.
        moment: Distribution of the moment within the stage, 0 (begin) to 1 (end).
    """

    weight: float
    magnitude: Distribution
    moment: Distribution


@dataclass(frozen=True)
class GenerationConfig:
    """Everything that determines the content of a dataset.

    Attributes:
        tasks: Names of the tasks.
        failures: Verified failures wanted: true failures with a proven correction.
        modes: How each mode is drawn.
        first_seed: First seed of the range.
        last_seed: One past its last seed.
        labels: Steps after the onset of each failure to find corrections for.
        verify_rollouts: Rollouts with each correction: one exact, the others with noise and delay.
        compound: Share of the cases with two perturbations at once, 0 to 1.
        attempts: Cases tried for one wanted failure before it is given up.
        stream: Number that makes the draws differ from those of another run over the same seeds.
        partitions: Independent parts of the run.
        needed: Count failures with a needed correction only, see `Verification.needed`.

    Raises:
        UserError: If values contradict each other.
    """

    tasks: tuple[str, ...]
    failures: int
    modes: Mapping[str, ModeConfig] = field(default_factory=lambda: default_modes())
    first_seed: int = 0
    last_seed: int = 100_000
    labels: int = 4
    verify_rollouts: int = 5
    compound: float = 0.1
    attempts: int = 40
    stream: int = 0
    partitions: int = PARTITIONS
    needed: bool = False

    def __post_init__(self) -> None:
        """Check the values; order the modes, because draws depend on their order."""
        ordered = {name: self.modes[name] for name in MODES.in_order(self.modes)}
        object.__setattr__(self, "modes", ordered)
        if not self.tasks:
            raise UserError("expected at least one task, got none")
        if len(set(self.tasks)) != len(self.tasks):
            raise UserError(f"expected each task once, got {', '.join(self.tasks)}")
        for name, value, least in (
            ("failures", self.failures, 1),
            ("labels", self.labels, 1),
            ("verify_rollouts", self.verify_rollouts, 1),
            ("attempts", self.attempts, 1),
            ("first_seed", self.first_seed, 0),
            ("partitions", self.partitions, 1),
        ):
            if value < least:
                raise UserError(f"expected {name} to be at least {least}, got {value}")
        if self.last_seed <= self.first_seed:
            raise UserError(
                f"expected a seed range A:B with A < B, got {self.first_seed}:{self.last_seed}, "
                "which is empty"
            )
        check_unmixed(range(self.first_seed, self.last_seed))
        if not 0 <= self.compound <= 1:
            raise UserError(f"expected compound between 0 and 1, got {self.compound}")
        if not any(mode.weight > 0 for mode in self.modes.values()):
            raise UserError("expected at least one mode with a weight above 0, got none")

    @property
    def partition_count(self) -> int:
        """Number of partitions in use: at most as many as there are failures and seeds."""
        return min(self.partitions, self.failures, self.last_seed - self.first_seed)

    def to_plain(self) -> dict[str, Any]:
        """Return the configuration as a JSON object, for the manifest."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["tasks"] = list(self.tasks)
        plain["modes"] = {
            name: {
                "weight": mode.weight,
                "magnitude": mode.magnitude.to_plain(),
                "moment": mode.moment.to_plain(),
            }
            for name, mode in self.modes.items()
        }
        return plain


def default_modes(names: tuple[str, ...] = ()) -> dict[str, ModeConfig]:
    """Return every built-in mode, or the named ones, with equal weights and their default magnitudes.

    Raises:
        UnknownNameError: If there is no mode of a name.
    """
    chosen = names or MODES.registered  # an installed plugin must not change what a command makes
    return {name: ModeConfig(1.0, MODES[name].magnitude, Uniform(0.0, 1.0)) for name in chosen}


def config_from_plain(plain: Mapping[str, Any], where: str) -> GenerationConfig:
    """Return the configuration of a manifest or a YAML file; absent keys have their defaults.

    Args:
        plain: The JSON object.
        where: Name of the file, for error messages.

    Raises:
        UserError: On a value of the wrong kind.
        UnknownNameError: On a key that does not exist.
    """
    known = {f.name: f for f in dataclasses.fields(GenerationConfig)}
    values: dict[str, Any] = {}
    for key, value in plain.items():
        if key not in known:
            raise UnknownNameError(f"key in {where}", key, known)
        if key == "modes":
            values[key] = _parse_modes(value, where)
        elif key == "tasks":
            if not isinstance(value, list) or not all(isinstance(v, str) for v in cast(list[Any], value)):
                raise UserError(f"{where}.tasks: expected a list of names, got {value!r:.80}")
            values[key] = tuple(cast(list[str], value))
        elif key == "needed":
            if not isinstance(value, bool):
                raise UserError(f"{where}.{key}: expected true or false, got {value!r:.80}")
            values[key] = value
        else:
            kinds = (int, float) if key == "compound" else (int,)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise UserError(f"{where}.{key}: expected a number, got {value!r:.80}")
            if abs(value) > LAST_SEED:
                raise UserError(f"{where}.{key}: expected a number up to 2**62, got a larger one")
            values[key] = float(value) if key == "compound" else value
    missing = {"tasks", "failures"} - values.keys()
    if missing:
        raise UserError(f"{where}: expected the keys {', '.join(sorted(missing))}, which are absent")
    return GenerationConfig(**values)


class _Loader(yaml.SafeLoader):
    """Reads YAML without aliases, with which a few lines can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not supported; write the value out")
        return super().compose_node(parent, index)


def read_modes_file(path: Path) -> dict[str, ModeConfig]:
    """Read the modes of a YAML file.

    The file holds `MODE: {weight: 1, magnitude: {uniform: [a, b]}, moment: {uniform: [0, 1]}}` for each mode.

    Raises:
        UserError: If there is no such file, or it holds something else.
        RecordError: If it cannot be read, or is no text.
    """
    try:
        data = yaml.load(read_text(path, largest=_LARGEST_YAML), _Loader)
    except RecursionError as error:
        raise UserError(f"{path}: expected modes by name, got YAML that is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number of more digits than Python reads
        raise UserError(
            f"{path}: expected YAML, got text that does not parse: {' '.join(str(error).split())}"
        ) from error
    return _parse_modes(data, str(path))


def parse_seeds(text: str) -> tuple[int, int]:
    """Parse a seed range `A:B`, where B is one past the last seed.

    Raises:
        UserError: If the text is no such range.
    """
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit()):
        raise UserError(f"expected a seed range A:B with two whole numbers, got '{text}'")
    return int(first), int(last)


def parse_shard(text: str, partitions: int) -> tuple[int, int]:
    """Parse a shard `i/n`, where i counts from 0.

    Args:
        text: The text.
        partitions: Number of partitions, which is also the largest number of shards.

    Raises:
        UserError: If the text is no such pair.
    """
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit()):
        raise UserError(f"expected a shard i/n with two whole numbers, got '{text}'")
    i, n = int(index), int(count)
    if not (0 <= i < n):
        raise UserError(f"expected a shard i/n with 0 <= i < n, got {text}")
    if n > partitions:
        raise UserError(f"expected at most {partitions} shards for this configuration, got {n}")
    return i, n


def _parse_modes(data: Any, where: str) -> dict[str, ModeConfig]:
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected modes by name, got {type(data).__name__}")
    modes: dict[str, ModeConfig] = {}
    for name, raw in cast(Mapping[Any, Any], data).items():
        if not isinstance(name, str) or (name not in MODES and ":" not in name):
            raise UnknownNameError(f"mode in {where}", str(name), MODES)
        settings = cast(Mapping[str, Any], raw if isinstance(raw, Mapping) else {})
        if raw is not None and not isinstance(raw, Mapping):
            raise UserError(f"{where}.{name}: expected weight, magnitude or moment, got {raw!r:.80}")
        for key in settings:
            if key not in ("weight", "magnitude", "moment"):
                raise UnknownNameError(f"key in {where}.{name}", str(key), ("weight", "magnitude", "moment"))
        weight = settings.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < 1e9:
            raise UserError(f"{where}.{name}.weight: expected a number of at least 0, got {weight!r:.80}")
        magnitude, moment = MODES[name].magnitude, Uniform(0.0, 1.0)
        if "magnitude" in settings:
            magnitude = parse_distribution(settings["magnitude"], f"{where}.{name}.magnitude")
            least, most = MODES[name].bounds
            if not (least <= magnitude.quantile(0.0) and magnitude.quantile(1.0) <= most):
                unit = MODES[name].unit
                raise UserError(
                    f"{where}.{name}.magnitude: expected a distribution of sizes from {least:g} to {most:g} "
                    f"{unit}, got one from {magnitude.quantile(0.0):g} to {magnitude.quantile(1.0):g}"
                )
        if "moment" in settings:
            moment = parse_distribution(settings["moment"], f"{where}.{name}.moment")
            if not (moment.quantile(0.0) >= 0 and moment.quantile(1.0) <= 1):
                raise UserError(f"{where}.{name}.moment: expected a distribution within 0 and 1")
        modes[name] = ModeConfig(float(weight), magnitude, moment)
    return modes
