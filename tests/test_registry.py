import inspect
import subprocess
import sys

import pytest

from failsafe import registry
from failsafe.errors import PluginError, UnknownNameError, UserError
from failsafe.imports import ImportRules, following
from failsafe.registry import Registry

ENTRY = "an entry"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package of one module, as pip leaves it behind."""

    def write(name, entry_points, source="", version="1.2"):
        module = name.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        groups = "\n".join(f"[{group}]\n{lines}" for group, lines in entry_points.items())
        (info / "entry_points.txt").write_text(groups)

    monkeypatch.syspath_prepend(tmp_path)
    return write


def made(*names):
    found = Registry("things", "thing")
    for name in names:
        found.add(name, name.upper())
    return found


def test_entries_keep_the_order_of_registration():
    found = made("b", "a")
    assert list(found) == ["b", "a"]
    assert (found["a"], found.get("c", 1), len(found), "b" in found, "c" in found) == ("A", 1, 2, True, False)
    assert found.in_order(["a", "x:y", "b"]) == ["b", "a", "x:y"]


def test_a_decorator_registers_and_returns_the_class():
    found = made()

    @found.register("mine")
    class Mine:
        pass

    assert found["mine"] is Mine


@pytest.mark.parametrize(
    ("name", "sentence"), [("a", "already a thing 'a'"), ("a:b", "without a colon"), ("", "without")]
)
def test_bad_names_are_refused(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        made("a").add(name, 1)


def test_an_unknown_name_says_the_nearest_one():
    with pytest.raises(
        UnknownNameError, match=r"unknown thing 'slp': did you mean 'slip'\? There are: drift, slip"
    ):
        made("slip", "drift")["slp"]


def test_a_suite_takes_a_few_words_of_a_message():
    names = [*(f"many/{i}" for i in range(90)), *(f"words/{c}" for c in "abcdefghijklm"), "a/0", "a/1", "x/2"]
    error = UnknownNameError("task", "many/90", names)
    listed = "a/0, a/1, many/0 to 89, words/... (13 names), x/2"
    assert str(error) == f"unknown task 'many/90': did you mean 'many/9'? There are: {listed}."


def test_module_and_attribute_stand_for_an_object():
    found = made()
    assert found["tests.test_registry:ENTRY"] == ENTRY
    assert found["failsafe.registry:Registry.register"] is Registry.register


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("nowhere:it", "No module named 'nowhere'"),
        ("failsafe.errors:it", "has no attribute 'it'"),
        (":it", "Empty module name"),
        ("failsafe.errors:", "has no attribute ''"),
    ],
)
def test_an_attribute_that_cannot_be_imported_is_a_users_mistake(name, cause):
    with pytest.raises(
        UserError, match=f"expected the name of a thing or MODULE:ATTRIBUTE, got '{name}': .*{cause}"
    ):
        made()[name]


def needs_a_file(path=None):
    raise FileNotFoundError(2, "No such file", "scene.xml")


def test_a_function_that_raises_is_one_sentence_that_says_where():
    line = inspect.getsourcelines(needs_a_file)[1] + 1
    with pytest.raises(UserError) as caught:
        registry.tasks.make("tests.test_registry:needs_a_file")
    assert str(caught.value) == (
        "expected a task from 'tests.test_registry:needs_a_file', got FileNotFoundError: [Errno 2] No such "
        f"file: 'scene.xml' (test_registry.py, line {line}): its code has to be mended"
    )


def test_an_argument_may_stand_behind_a_name():
    found = made("served")
    assert found.split("served") == ("SERVED", None)
    assert found.split("served://host:1") == ("SERVED", "//host:1")
    assert found.split("tests.test_registry:ENTRY") == (ENTRY, None)


def test_an_entry_is_prepared_once():
    found, prepared = made("a"), []
    found.prepare = lambda name, entry: prepared.append(name) or (name, entry)
    assert found["a"] == found["a"] == ("a", "A")
    assert prepared == ["a"]


def test_plugins_come_after_what_is_registered_here(install):
    install("a-plugin", {"failsafe.things": "extra = a_plugin:EXTRA"}, "EXTRA = 7")
    found = made("z")
    assert list(found) == ["z", "extra"]
    assert found.registered == ("z",)
    assert found.plugin_of("extra").distribution == "a-plugin"
    assert found.plugin_of("z") is None
    assert "a_plugin" not in sys.modules  # its names are known without its code
    assert found["extra"] == 7


def test_a_plugin_that_registers_its_own_entry_point_is_one_entry(install):
    source = "from tests.test_registry import SHARED\n@SHARED.register('twice')\nclass Twice: pass\n"
    install("decorated", {"failsafe.shared": "twice = decorated:Twice"}, source)
    import decorated

    assert list(SHARED) == ["twice"]
    assert SHARED["twice"] is decorated.Twice


SHARED = Registry("shared", "thing")


def test_two_plugins_with_one_name_are_refused(install):
    install("one", {"failsafe.things": "extra = one:X"}, "X = 1")
    install("two", {"failsafe.things": "extra = two:X"}, "X = 2")
    with pytest.raises(UserError, match="expected one thing 'extra', got one each from 'one' and 'two'"):
        made()["extra"]
    install("three", {"failsafe.things": "z = three:X"}, "X = 3")
    with pytest.raises(UserError, match="got one each from 'three' and FailSafe"):
        made("z")["z"]


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("", "AttributeError: module .* has no attribute .EXTRA."),
    ],
)
def test_a_broken_plugin_is_named_with_its_cause(install, source, cause, request):
    name = f"broken-{abs(hash(request.node.name))}"
    install(name, {"failsafe.things": f"extra = {name.replace('-', '_')}:EXTRA\n"}, source)
    found = made("sound")
    assert found["sound"] == "SOUND"
    with pytest.raises(
        PluginError, match=f"the thing 'extra' of the plugin '{name}' .* cannot be imported: {cause}; "
    ) as e:
        found["extra"]
    assert "\n" not in str(e.value)


def test_installed_plugins_are_listed_and_used_ones_apart(install):
    script = (
        "from failsafe import registry\n"
        "print(registry.plugins())\n"
        "print(registry.used_plugins())\n"
        "registry.policies['idle'], registry.modes['slip']\n"
        "print(registry.used_plugins() == registry.plugins()[:1])\n"
    )
    install("a-plugin", {"failsafe.policies": "idle = a_plugin:Idle"}, "class Idle: pass")
    install("b-plugin", {"failsafe.modes": "x = b_plugin:X", "failsafe.models": "m = b_plugin:M"})
    path = f"import sys; sys.path.insert(0, {sys.path[0]!r})\n"
    done = subprocess.run([sys.executable, "-c", path + script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "[Plugin(distribution='a-plugin', version='1.2', entry_points=('policies idle',)), "
        "Plugin(distribution='b-plugin', version='1.2', entry_points=('modes x', 'models m'))]",
        "[]",
        "True",
    ]


def test_the_registry_imports_nothing_heavy():
    script = "import sys, failsafe.registry\n"
    script += "print([m for m in sys.modules if m.startswith(('failsafe.', 'numpy'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (
        done.stdout.strip()
        == "['failsafe.errors', 'failsafe.imports', 'failsafe.sources', 'failsafe.registry']"
    )


def test_every_built_in_entry_is_what_its_kind_expects():
    assert set(registry.KINDS) == {
        *("tasks", "simulators", "experts", "modes", "models"),
        *("policies", "scenarios", "conditions", "executors", "exporters"),
    }
    for kind in registry.KINDS.values():
        for name in kind.registered:
            assert kind[name] is not None


def test_a_name_of_a_file_needs_trust_even_if_it_has_been_imported():
    name, found = "tests.test_registry:ENTRY", Registry("things", "thing")
    assert found[name] is ENTRY
    with following(ImportRules(any=False)), pytest.raises(UserError, match=f"--trust {name}"):
        found[name]
    with following(ImportRules(frozenset({name}), any=False)):
        assert found[name] is ENTRY
