"""One registry for everything that has a name.

Each kind of component has its own `Registry`, a mapping from names to entries. An entry comes from one of
three places:

- FailSafe: `@registry.modes.register("slip")` above a class or function. The modules that hold the built-in
  entries are imported at the first lookup of their kind, so importing this module stays cheap.
- An installed package, a *plugin*: an entry point in the group `failsafe.<kind>`, for example
  `[project.entry-points."failsafe.modes"]` with `my_mode = "my_package.modes:MyMode"`. The package is
  imported when one of its entries is asked for. Worker processes find the same entry points.
- `MODULE:ATTRIBUTE` in place of a name: any importable object. It needs no installation.

What an entry has to be is stated where its kind is defined:

| registry | an entry is | defined in |
|---|---|---|
| `tasks` | a function without arguments that returns a `Task` | `failsafe.experts.tasks` |
| `simulators` | a `SimulatorSuite`: a simulator for each of its tasks | `failsafe.simulators.suites` |
| `experts` | an `ExpertSuite`: an expert for each of its tasks | `failsafe.experts.suites` |
| `modes` | a subclass of `Mode` | `failsafe.perturbations.mode` |
| `models` | a function or class that returns a `RecoveryModel` | `failsafe.models.loading` |
| `policies` | a function or class that returns a `Policy` | `failsafe.policies.loading` |
| `scenarios` | a `Scenario` | `failsafe.evaluation.scenarios` |
| `conditions` | a `Condition` | `failsafe.evaluation.conditions` |
| `executors` | a function or class that returns an `Executor` | `failsafe.execution` |
| `exporters` | a function that writes a dataset in another format | `failsafe.exports.contract` |
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from typing import Any, Generic, TypeVar, cast

from failsafe.errors import FailSafeError, PluginError, UnknownNameError, UserError, cause_of
from failsafe.imports import import_attribute, import_path, require_import
from failsafe.sources import fingerprint_of_module

T = TypeVar("T")
D = TypeVar("D")
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Plugin:
    """An installed package that adds entries.

    Attributes:
        distribution: Name of the package, as pip shows it.
        version: Its version.
        entry_points: What it adds, each as "KIND NAME", for example "modes slip".
    """

    distribution: str
    version: str
    entry_points: tuple[str, ...]


class Registry(Mapping[str, T], Generic[T]):
    """The entries of one kind by name: built-in ones in the order of registration, then those of plugins.

    Iteration and `in` import the built-in modules but no plugin; `registry[name]` imports the plugin that
    owns the name.

    Args:
        kind: Name of the kind, plural, as in the entry-point group "failsafe.KIND".
        noun: The kind in the singular, for messages.
        modules: Modules that register the built-in entries, in order.
    """

    def __init__(self, kind: str, noun: str, modules: Iterable[str] = ()) -> None:
        self.kind, self.noun = kind, noun
        self.prepare: Callable[[str, Any], T] | None = None
        """Check an entry, given with its name, when it is first asked for; return the entry to keep."""
        self.result: type[Any] | None = None
        """Class or runtime-checkable protocol of what an entry has to return, where `make` calls it."""
        self._modules = tuple(modules)
        self._imported = False
        self._registered: dict[str, T] = {}
        self._prepared: dict[str, T] = {}

    def expect(self, base: type[T]) -> None:
        """Let every entry be an instance of a class; an entry that is itself a class is called first.

        Args:
            base: The class.
        """

        def check(name: str, entry: object) -> T:
            made = entry() if isinstance(entry, type) else entry
            if not isinstance(made, base):
                raise UserError(
                    f"expected a {base.__module__}.{base.__qualname__} as {self.noun} '{name}', "
                    f"got {entry!r:.80}"
                )
            return made

        self.prepare = check

    @property
    def group(self) -> str:
        """The group of entry points that adds entries of this kind."""
        return f"failsafe.{self.kind}"

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Make a decorator that registers a class or a function and returns it unchanged.

        Args:
            name: Name of the entry.
        """

        def decorate(entry: Entry) -> Entry:
            self.add(name, entry)
            return entry

        return decorate

    def add(self, name: str, entry: Any) -> None:
        """Register an object.

        Args:
            name: Its name.
            entry: The object.

        Raises:
            ValueError: If the name is taken or contains a colon.
        """
        if name in self._registered:
            raise ValueError(f"there is already a {self.noun} '{name}'")
        if not name or ":" in name:
            raise ValueError(f"expected a name without a colon for a {self.noun}, got '{name}'")
        self._registered[name] = entry

    @property
    def registered(self) -> tuple[str, ...]:
        """Names of the built-in entries and of those that this process has registered, without plugins."""
        self._import_modules()
        return tuple(name for name in self._registered if name not in self.entry_points)

    def __getitem__(self, name: str) -> T:
        """Return the entry of a name, or the object that "MODULE:ATTRIBUTE" points to.

        Raises:
            UnknownNameError: If there is no such entry.
            PluginError: If the plugin that adds it cannot be imported.
            UserError: If two packages add the name, or "MODULE:ATTRIBUTE" cannot be imported or is not
                trusted.
        """
        if name not in self._prepared:
            entry = self._find(name)
            self._prepared[name] = self.prepare(name, entry) if self.prepare else entry
        elif ":" in name and name not in self.entry_points:
            require_import(name)  # the rules may be others than when it was imported
        return self._prepared[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names."""
        yield from self.registered
        yield from self.entry_points

    def __len__(self) -> int:
        """Count the names."""
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        """Whether there is an entry of this name."""
        return name in self.registered or name in self.entry_points

    def get(  # pyright: ignore[reportIncompatibleMethodOverride]  (the overloads of Mapping.get)
        self, key: str, default: D = None
    ) -> T | D:
        """Return the entry of a name, or the default where there is none.

        Args:
            key: Name of the entry.
            default: What to return for an unknown name.
        """
        if key in self:
            return self[key]
        return default

    def split(self, text: str) -> tuple[T, str | None]:
        """Read "NAME" or "NAME:ARGUMENT", where NAME may itself be "MODULE:ATTRIBUTE".

        Args:
            text: For example "reference:weak" or "my_package:MyPolicy".

        Returns:
            The entry, and the text behind the colon (None where there is none).

        Raises:
            UnknownNameError, PluginError, UserError: As `registry[name]`.
        """
        name, colon, argument = text.partition(":")
        return (self[name], argument) if colon and name in self else (self[text], None)

    def make(self, text: str, **options: Any) -> Any:
        """Call an entry that is a class or a function, and return what it makes.

        Args:
            text: "NAME" or "NAME:ARGUMENT", as `split` reads it; the argument is passed as a string.
            **options: Keyword arguments, each passed if the entry has a parameter of that name.

        Raises:
            UnknownNameError, PluginError: As `registry[name]`.
            UserError: If the entry cannot be called like that, raises an exception, or returns something else
                than `result`.
        """
        entry, argument = self.split(text)
        given = () if argument is None else (argument,)
        try:
            signature = inspect.signature(cast(Any, entry))
            taken = {name: value for name, value in options.items() if name in signature.parameters}
            signature.bind(*given, **taken)
        except TypeError as error:
            how = "without arguments" if argument is None else "with one string"
            raise UserError(
                f"expected a {self.noun} that can be made {how}, got '{text}': {error}"
            ) from error
        try:
            made = cast(Any, entry)(*given, **taken)
        except FailSafeError:
            raise
        except Exception as error:
            if str(getattr(entry, "__module__", "")).partition(".")[0] == "failsafe":
                raise  # a bug of ours keeps its traceback
            raise UserError(
                f"expected a {self.noun} from '{text}', got {cause_of(error)}: its code has to be mended"
            ) from error
        if self.result is not None and not isinstance(made, self.result):
            members = [m for m in dir(self.result) if not m.startswith("_") and not hasattr(made, m)]
            missing = f"; missing: {', '.join(members)}" if members else ""
            raise UserError(
                f"expected a {self.result.__module__}.{self.result.__name__} from '{text}', "
                f"got {type(made).__name__}{missing}"
            )
        return made

    def version_of(self, text: str) -> str:
        """Return what distinguishes one version of an entry's code from another, without importing it.

        A plugin's entry then counts as used, since worker processes may import it and not this one.

        Args:
            text: "NAME", "NAME:ARGUMENT" or "MODULE:ATTRIBUTE".

        Returns:
            "PACKAGE VERSION SHA-256" for a plugin's entry, the SHA-256 of the sources for "MODULE:ATTRIBUTE"
            (see `failsafe.sources`), an empty string for a built-in entry or without a source file.
        """
        for name in (text, text.partition(":")[0]):
            if plugin := self.plugin_of(name):
                _used.add(plugin.distribution)
                sources = fingerprint_of_module(self.entry_points[name][0].module)
                return f"{plugin.distribution} {plugin.version} {sources}".strip()
            if name in self:
                return ""
        with import_path(text):
            return fingerprint_of_module(text.partition(":")[0])

    def identify(self, text: str) -> str:
        """Return `version_of`, and what the entry itself says of the files that it reads, such as weights.

        An entry says it with an attribute `fingerprint`, a function of the argument that returns a string.

        Args:
            text: As for `version_of`.

        Raises:
            UnknownNameError, PluginError, UserError: As `registry[name]`.
        """
        entry, argument = self.split(text)
        fingerprint = getattr(entry, "fingerprint", None)
        own = str(fingerprint(argument or "")) if callable(fingerprint) else ""
        return f"{self.version_of(text)} {own}".strip()

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Sort names as the registry lists them, those of the form "MODULE:ATTRIBUTE" last and by name."""
        known, wanted = list(self), set(names)
        return [name for name in known if name in wanted] + sorted(wanted - set(known))

    def plugin_of(self, name: str) -> Plugin | None:
        """Return the plugin that adds a name, None for a built-in entry. Does not import the plugin."""
        points = self.entry_points.get(name)
        return _plugin_of(points[0]) if points else None

    def _find(self, name: str) -> Any:
        points = list(self.entry_points.get(name, ()))
        if name in self.registered:
            return self._registered[name]
        if not points:
            return self._import_attribute(name)
        owners = [f"'{_distribution(point)}'" for point in points]
        if len(points) > 1:
            raise self._conflict(name, owners)
        try:
            entry = points[0].load()
        except Exception as error:  # whatever goes wrong in a plugin is reported with the plugin's name
            raise PluginError(
                f"the {self.noun} '{name}' of the plugin {owners[0]} ({points[0].value}) cannot be imported: "
                f"{type(error).__name__}: {error}; install another version of {owners[0]} or uninstall it"
            ) from error
        if self._registered.get(name, entry) is not entry:
            raise self._conflict(name, [*owners, "FailSafe"])
        _used.add(_distribution(points[0]))
        return entry

    def _conflict(self, name: str, owners: list[str]) -> UserError:
        return UserError(
            f"expected one {self.noun} '{name}', got one each from {' and '.join(owners)}; "
            "uninstall a package or rename its entry point"
        )

    def _import_attribute(self, name: str) -> Any:
        if ":" not in name:
            raise UnknownNameError(self.noun, name, self)
        try:
            return import_attribute(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                f"expected the name of a {self.noun} or MODULE:ATTRIBUTE, got '{name}': {error}"
            ) from error

    def _import_modules(self) -> None:
        if not self._imported:
            for module in self._modules:
                importlib.import_module(module)
            self._imported = True

    @cached_property
    def entry_points(self) -> dict[str, tuple[metadata.EntryPoint, ...]]:
        """Entry points of this kind by name, sorted by package; several of one name are a conflict."""
        found: dict[str, tuple[metadata.EntryPoint, ...]] = {}
        for point in sorted(
            metadata.entry_points(group=self.group), key=lambda p: (_distribution(p), p.name)
        ):
            found[point.name] = (*found.get(point.name, ()), point)
        return found


_used: set[str] = set()


def used_plugins() -> list[Plugin]:
    """List the plugins of which this process has used an entry, sorted by name."""
    return [plugin for plugin in plugins() if plugin.distribution in _used]


def plugins() -> list[Plugin]:
    """List the installed plugins, sorted by name. Imports none of them."""
    found: dict[str, metadata.EntryPoint] = {}
    for registry in KINDS.values():
        for points in registry.entry_points.values():
            found |= {_distribution(point): point for point in points}
    return [_plugin_of(found[name]) for name in sorted(found)]


def _plugin_of(point: metadata.EntryPoint) -> Plugin:
    name = _distribution(point)
    added = [
        f"{registry.kind} {other.name}"
        for registry in KINDS.values()
        for points in registry.entry_points.values()
        for other in points
        if _distribution(other) == name
    ]
    return Plugin(name, point.dist.version if point.dist else "", tuple(added))


def _distribution(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown"


tasks: Registry[Any] = Registry("tasks", "task", ["failsafe.experts.tasks"])
simulators: Registry[Any] = Registry("simulators", "simulator", ["failsafe.simulators.suites"])
experts: Registry[Any] = Registry("experts", "expert", ["failsafe.experts.suites"])
modes: Registry[Any] = Registry("modes", "mode", ["failsafe.perturbations"])
models: Registry[Any] = Registry(
    "models", "recovery model", ["failsafe.models.loading", "failsafe.models.endpoints"]
)
policies: Registry[Any] = Registry("policies", "policy", ["failsafe.policies.loading"])
scenarios: Registry[Any] = Registry("scenarios", "scenario", ["failsafe.evaluation.scenarios"])
conditions: Registry[Any] = Registry("conditions", "condition", ["failsafe.evaluation.conditions"])
executors: Registry[Any] = Registry(
    "executors",
    "executor",
    ["failsafe.execution.serial", "failsafe.execution.processes", "failsafe.execution.ray_executor"],
)
exporters: Registry[Any] = Registry("exporters", "exporter", ["failsafe.exports.maniskill"])

KINDS: Mapping[str, Registry[Any]] = {
    r.kind: r
    for r in (
        tasks,
        simulators,
        experts,
        modes,
        models,
        policies,
        scenarios,
        conditions,
        executors,
        exporters,
    )
}
"""Every registry by its kind."""
