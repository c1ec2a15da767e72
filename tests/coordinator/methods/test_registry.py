"""Methods that other packages bring: real packages in a folder on the path, as pip leaves them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.config.tables import FAMILIES, Family
from coordinator.methods import MethodSettings, Registry, not_callable, not_subclass_of, undefined
from coordinator.methods.aggregation import AGGREGATORS
from coordinator.methods.aggregation.base import fault_of
from coordinator.methods.clustering import CLUSTERERS, RULES, Clusterer
from coordinator.methods.interaction import INTERACTIONS, Interaction
from coordinator.methods.optimisers import OPTIMISERS, ServerOptimiser
from coordinator.methods.robust import FILTERS, Filter
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


def test_an_interaction_is_a_class_not_an_object(install: Install) -> None:
    install(
        "early-methods",
        "from coordinator.methods.interaction import Alone, Interaction\nmade = Alone()\n"
        "class Plan(Alone, frozen=True, kw_only=True):\n    strength: float = 0.3\n"
        "class Half(Interaction, frozen=True, kw_only=True): ...\n",
        made="made",
        plan="Plan",
        half="Half",
    )
    methods = Registry(GROUP, {"none": INTERACTIONS["none"]}, not_subclass_of(Interaction))
    assert issubclass(methods["plan"], Interaction)
    with pytest.raises(ConfigurationError, match=r"no subclass of coordinator.methods.interaction.base.Interaction"):
        methods["made"]
    with pytest.raises(ConfigurationError, match="does not define __call__"):
        methods["half"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Clusterer, "__call__"), (Filter, "__call__"), (Interaction, "__call__"), (ServerOptimiser, "advance")],
)
def test_a_kind_of_method_is_abstract(kind: type[MethodSettings], name: str) -> None:
    assert undefined(kind) == [name]
    with pytest.raises(TypeError, match=f"abstract.*{name}"):
        kind()


AGGREGATOR = """
from typing import Annotated
from msgspec import Meta
from coordinator.methods.aggregation import AGGREGATORS, AggregatorSettings, CarryingSettings

class Keys(CarryingSettings, frozen=True, kw_only=True):
    power: Annotated[float, Meta(ge=0, le=1)] = 0.5

    def __post_init__(self):
        super().__post_init__()
        if self.power == 1 and self.max_weight > 1:
            raise ValueError("power = 1 needs max_weight = 1")

class method(AGGREGATORS["product"]):
    Settings = Keys

class bare(AGGREGATORS["product"]):
    Settings = AggregatorSettings
"""


def test_an_aggregator_brings_keys_that_check_themselves(install: Install) -> None:
    install("keyed-methods", AGGREGATOR, keyed="method", bare="bare")
    family = Family("aggregation", "keyed", aggregators(), lambda method: method.Settings)
    assert family.read({"power": 0.25, "max_weight": 2}, "file").power == 0.25
    assert family.owners("power") == ["keyed"]
    with pytest.raises(ConfigurationError, match=r"file: \[aggregation\]: Expected `float` <= 1.0.*power"):
        family.read({"power": 2}, "file")
    with pytest.raises(ConfigurationError, match="power = 1 needs max_weight = 1"):
        family.read({"power": 1}, "file")
    with pytest.raises(ConfigurationError, match="has no key 'power', which is a key of keyed"):
        family.read({"method": "ours", "power": 1}, "file")
    with pytest.raises(ConfigurationError, match=r"'bare'.*no subclass of .*\.CarryingSettings"):
        family.read({"method": "bare"}, "file")


@pytest.mark.parametrize("table", FAMILIES)
def test_every_method_of_ours_has_a_table(table: str) -> None:
    for name in (*FAMILIES[table].registry.built_in, *FAMILIES[table].offline):
        kind = FAMILIES[table].settings(name)
        assert issubclass(kind, MethodSettings)
        if name != "ifca":  # it must be told the number of clusters
            assert FAMILIES[table].read({"method": name}, "file").method == name


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
