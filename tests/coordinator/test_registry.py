"""Methods that other packages bring: real packages in a folder on the path, as pip leaves them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.methods.aggregation import AGGREGATORS
from coordinator.methods.aggregation.base import fault_of
from coordinator.methods.clustering import CLUSTERERS, RULES
from coordinator.methods.interaction import INTERACTIONS, Interaction
from coordinator.methods.optimisers import OPTIMISERS
from coordinator.methods.registry import Registry, not_callable, not_of
from coordinator.methods.robust import FILTERS
from edge_sdk.errors import ConfigurationError

GROUP = "impasto.tests"
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package on the path: its name, its module's code, its entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(package: str, code: str, **entries: str) -> None:
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code)
        metadata = tmp_path / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {module}:{value}\n" for name, value in entries.items())
        (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return add


def functions() -> Registry[Callable[[], object]]:
    return Registry(GROUP, {"ours": dict, "other": list}, not_callable)


def aggregators() -> Registry[object]:
    return Registry(GROUP, {"ours": AGGREGATORS["product"]}, fault_of)


def test_built_in_methods_come_first_and_others_by_name(install: Install) -> None:
    install("their-methods", "def one(): return 1\ndef two(): return 2\n", two="two", one="one")
    methods = functions()
    assert list(methods) == ["ours", "other", "one", "two"]
    assert len(methods) == 4
    assert "two" in methods
    assert methods["two"]() == 2
    assert methods["ours"] is dict
    assert methods["two"] is methods["two"]
    assert dict(methods.built_in) == {"ours": dict, "other": list}


def test_a_name_that_nobody_has() -> None:
    assert "none" not in functions()
    with pytest.raises(KeyError):
        functions()["none"]


def test_nothing_is_imported_before_it_is_asked_for(install: Install) -> None:
    install("costly-methods", "raise AssertionError('imported')\n", costly="method")
    assert "costly" in list(functions())
    assert functions()["ours"] is dict
    assert "costly_methods" not in sys.modules


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import not_there_at_all\n", "ModuleNotFoundError"),
        ("raise RuntimeError('no licence')\n", "RuntimeError: no licence"),
        ("other = 1\n", "AttributeError"),
        ("method = 1\n", "is not callable"),
    ],
)
def test_what_cannot_be_used_names_its_package(install: Install, code: str, said: str) -> None:
    install("broken-methods", code, broken="method")
    with pytest.raises(ConfigurationError, match=rf"'broken'.*broken-methods.*{said}.*uninstall"):
        functions()["broken"]


def test_a_name_that_is_built_in_is_refused(install: Install) -> None:
    install("bold-methods", "method = dict\n", ours="method")
    with pytest.raises(ConfigurationError, match=r"bold-methods offers 'ours'.*built in.*another name"):
        list(functions())
    assert functions()["ours"] is dict


def test_a_name_of_two_packages_is_refused(install: Install) -> None:
    install("first-methods", "method = dict\n", same="method")
    install("second-methods", "method = dict\n", same="method")
    with pytest.raises(ConfigurationError, match=r"second-methods offers 'same'.*comes from first-methods already"):
        functions()["same"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def method(): ...\n", "no subclass of coordinator.methods.aggregation.Aggregator"),
        ("class method: ...\n", "no subclass"),
        (
            "from coordinator.methods.aggregation import Aggregator\n"
            "class method(Aggregator):\n    exact = linear = False\n"
            "    def _add(self, adapter, weight): ...\n",
            "does not define _merge, _result, mixed_ranks",
        ),
    ],
)
def test_an_aggregator_is_a_whole_one(install: Install, code: str, said: str) -> None:
    install("half-methods", code, half="method")
    with pytest.raises(ConfigurationError, match=said):
        aggregators()["half"]


def test_an_interaction_is_an_object_not_its_class(install: Install) -> None:
    install(
        "early-methods",
        "from coordinator.methods.interaction.none import Alone\nmade = Alone()\n",
        made="made",
        plan="Alone",
    )
    methods = Registry(GROUP, {"none": INTERACTIONS["none"]}, not_of(Interaction))
    assert isinstance(methods["made"], Interaction)
    with pytest.raises(ConfigurationError, match=r"no object of coordinator.methods.interaction.base.Interaction"):
        methods["plan"]


def test_each_kind_of_method_has_its_group() -> None:
    registries = (AGGREGATORS, OPTIMISERS, FILTERS, CLUSTERERS, RULES, INTERACTIONS)
    assert [registry.group.removeprefix("impasto.") for registry in registries] == [
        "aggregators",
        "optimisers",
        "filters",
        "clusterers",
        "choices",
        "interactions",
    ]
