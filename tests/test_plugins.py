"""Plug-ins: what a name finds, what is said where it finds nothing, when the source is another."""

import importlib
import sys
from types import ModuleType

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nascore.engine import Mask
from nascore.errors import ConfigError, in_one_line
from nascore.frameworks import FRAMEWORKS, GDAS, Framework
from nascore.plugins import Registry, is_built_in, source_digest


class Base(Framework):
    def draw(self, alpha, generator=None):
        score = alpha.log_softmax(dim=1)
        return Mask(score.detach().exp(), score)


def a_function():
    return 1


CELL = """
from nascore.frameworks import Framework
from nascore.frameworks import GDAS
from pydantic import Field

class Mine(Framework):
    luck: list[float] = Field(default_factory=lambda: [{luck}])

    def draw(self, alpha, generator=None):
        return alpha

class Cooler(GDAS):
    temperature: float = {luck}

def function():
    return {luck}
"""


@pytest.fixture
def registry():
    """Of what can be called."""
    return Registry("trick")


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the working folder, and forgets it after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written = []

    def write(text, name="a_module_of_mine"):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        sys.modules.pop(name, None)
        written.append(name)

    yield write
    for name in written:
        sys.modules.pop(name, None)


@pytest.fixture
def cell(monkeypatch):
    """Runs code as a cell of a notebook, whose module has no file; returns its names."""
    shell = InteractiveShell.instance()

    def run(code):
        own = ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", own)
        monkeypatch.setattr(shell, "user_module", own)
        shell.user_ns = vars(own)
        shell.run_cell(code, store_history=True).raise_error()
        return vars(own)

    yield run
    InteractiveShell.clear_instance()


def test_a_registered_name_finds_its_plug_in(registry):
    registry.register("one")(a_function)
    assert registry["one"] is a_function and "one" in registry
    assert list(registry) == [f"{__name__}:one"]
    assert registry.register("one")(a_function) is a_function  # as when a cell runs again
    with pytest.raises(ConfigError, match="trick 'one' is registered twice: it is .*a_function a"):
        registry.register("one")(Base)
    with pytest.raises(ConfigError, match="trick 'a:b': a name has no colon"):
        registry.register("a:b")
    with pytest.raises(ConfigError, match="trick 'five': it is neither a class nor a function"):
        registry.register("five")(5)


def test_a_name_of_a_module_finds_its_attribute_and_what_it_registered(registry, module):
    module("def trick(): pass")
    trick = registry["a_module_of_mine:trick"]
    assert trick.__name__ == "trick"
    assert registry.name_of(trick) == registry.name_of("a_module_of_mine:trick")
    assert registry.name_of(trick) == "a_module_of_mine:trick"
    registry.register("short")(trick)
    assert registry["a_module_of_mine:short"] is trick
    for name in ("short", "a_module_of_mine:trick", trick):
        assert registry.name_of(name) == "a_module_of_mine:short"


def test_two_modules_and_a_notebook_may_give_the_same_name(registry, module, monkeypatch):
    for name in ("a_module_of_mine", "another_of_mine"):
        module("def trick(): pass", name)
        registry.register("mine")(importlib.import_module(name).trick)
    here = type("Mine", (), {"__module__": "__main__"})
    assert registry.name_of("another_of_mine:mine") == "another_of_mine:mine"
    with pytest.raises(
        ConfigError, match="'mine': say which one, a_module_of_mine:mine or another_of_mine:mine"
    ):
        registry["mine"]
    registry.register("ours")(here)
    assert registry.name_of("ours") == "__main__:ours" and registry["__main__:ours"] is here


def test_built_in_plug_ins_have_plain_names():
    assert FRAMEWORKS.name_of(GDAS) == "gdas"
    assert is_built_in(GDAS) and not is_built_in(Base)


@pytest.mark.parametrize(
    "name, message",
    [
        ("trik", "unknown trick 'trik'. Allowed: none. Or give one of your own as 'module:name'."),
        ("a_module_of_mine", "unknown trick 'a_module_of_mine'"),
        (
            "a_module_of_mine:trik",
            "trick 'a_module_of_mine:trik': unknown name 'trik'. Did you mean 'trick'? "
            "Allowed: other, trick.",
        ),
        ("a_module_of_mine:number", "number': it is neither a class nor a function."),
        ("a_module_of_mine.py:trick", "there is no module 'a_module_of_mine.py'"),
        (":trick", "cannot import '', ValueError: Empty module name"),
        (
            "no_such_module:trick",
            "trick 'no_such_module:trick': there is no module 'no_such_module'. It must lie in the "
            "working folder or be installed, also where workers run.",
        ),
        (
            "broken:trick",
            "cannot import 'broken', line 2 of broken.py: ModuleNotFoundError: "
            "No module named 'no_such_module'",
        ),
        ("unreadable:trick", "cannot import 'unreadable', SyntaxError: "),
        ("__main__:Gone", "trick '__main__:Gone': unknown name 'Gone'"),
    ],
)
def test_what_a_name_does_not_find_is_told(registry, module, name, message):
    module("def trick(): pass\ndef other(): pass\ndef _hidden(): pass\nnumber = 5")
    module("\nimport no_such_module", "broken")
    module("class X(", "unreadable")
    with pytest.raises(ConfigError) as error:
        registry[name]
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_decorator_is_one_line_with_its_place(module):
    module(
        "from nascore.frameworks import Framework, framework\n"
        "@framework('fine')\nclass Fine(Framework):\n    def draw(self, context): ...\n"
        "@framework('mine')\nclass Mine(Framework): ...\n"
    )
    for name in ("Fine", "Mine"):
        with pytest.raises(ConfigError) as error:
            FRAMEWORKS[f"a_module_of_mine:{name}"]
        assert str(error.value) == (
            f"framework 'a_module_of_mine:{name}': cannot import 'a_module_of_mine', line 5 of "
            "a_module_of_mine.py: framework 'mine': Mine has no draw(self, context)."
        )


def test_what_has_no_name_is_refused(registry):
    def local():
        pass

    with pytest.raises(ConfigError, match="unknown name 'test_what_has_no_name"):
        registry[f"{__name__}:{local.__qualname__}"]
    with pytest.raises(ConfigError, match="trick '5': it is neither a class nor a function"):
        registry.name_of(5)


def test_a_failure_names_the_line_of_the_plug_in(module):
    module("def outer():\n    return inner()\n\ndef inner():\n    return len(5)")
    import a_module_of_mine

    with pytest.raises(TypeError) as error:
        a_module_of_mine.outer()
    said = in_one_line(error.value, "a_module_of_mine")
    assert said == "line 5 of a_module_of_mine.py: TypeError: object of type 'int' has no len()"
    assert in_one_line(ValueError("no"), "elsewhere") == "ValueError: no"


MODULE = """
class Helper:
    luck = {luck}

def trick():
    return Helper
"""


def test_the_digest_covers_the_whole_module(module):
    """A class beside the plug-in is part of what it does."""
    digests = set()
    for luck in (1, 20, 1):
        module(MODULE.format(luck=luck))
        digests.add(source_digest(Registry("trick")["a_module_of_mine:trick"]))
    assert len(digests) == 2


def test_the_digest_holds_what_a_class_inherits(module):
    digests = set()
    for luck in (1, 20):
        module(MODULE.format(luck=luck), "its_base")
        module("import its_base\nclass Mine(its_base.Helper): ...")
        digests.add(source_digest(Registry("trick")["a_module_of_mine:Mine"]))
    assert len(digests) == 2


def test_the_digest_is_that_of_what_was_loaded(module):
    """Not of a file that was edited since, and not loaded again."""
    tricks = Registry("trick")
    module(MODULE.format(luck=1))
    before = source_digest(tricks["a_module_of_mine:trick"])
    path = importlib.import_module("a_module_of_mine").__file__
    with open(path, "a", encoding="utf-8") as file:
        file.write("# edited")
    assert source_digest(tricks["a_module_of_mine:trick"]) == before


@pytest.mark.filterwarnings("ignore")  # IPython's own
@pytest.mark.parametrize("name", ["Mine", "function"])
def test_what_a_cell_defines_has_a_digest_of_its_cell(cell, name):
    first, again, edited = (cell(CELL.format(luck=luck))[name] for luck in (1.0, 1.0, 2.0))
    assert first is not again
    assert source_digest(first) == source_digest(again) != source_digest(edited)


@pytest.mark.filterwarnings("ignore")
def test_a_class_of_a_cell_without_methods_is_refused(cell):
    with pytest.raises(ConfigError, match="source of __main__:Cooler cannot be found.*to a file"):
        source_digest(cell(CELL.format(luck=1.0))["Cooler"])
