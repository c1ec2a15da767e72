"""Changes of every key of the federation file between two starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from coordinator import config
from coordinator.config import BaseModel, Federation, FederationFile
from coordinator.config.changes import CHANGES, adopt, how_of, settings_of
from coordinator.config.tables import FAMILIES
from coordinator.rounds import Joined, Lineage, Restarted, Served, State, all_served
from edge_sdk.adapter import Shape
from edge_sdk.errors import ConfigurationError
from edge_sdk.wire.messages import Finished, RoundStart
from tests.coordinator.federations import DEVICES, Machine, deliver, joined, manifest, profile, rules, started

BASE = BaseModel("b" * 64, {"layer.to_q": Shape(4, 4)})
MINIMAL = 'name = "tastes"\nslots = "impasto.json"\nrounds = 3\nrank = 4\n'


def federation(text: str = "") -> Federation:
    keys = set(re.findall(r"^(\w+) =", text.partition("[")[0], flags=re.MULTILINE))
    keys |= {"slots"} if "bundle" in keys else set()
    kept = [line for line in MINIMAL.splitlines() if line.split()[0] not in keys]
    return config.parse("\n".join([*kept, text]), folder=Path("/somewhere"))


# A file whose updates may be summed under masks.
MASKABLE = 'min_devices = 3\n[aggregation]\nmethod = "fedit"\n[clustering]\nmethod = "single"'
# A file whose devices choose their clusters alone.
LOCAL = 'privacy = "local"\n[aggregation]\nmasked = true\n'
# Another value for each key, in a file that makes sense.
OTHER: dict[str, str] = {
    "name": 'name = "paintings"',
    "broker": 'broker = "mqtt://other"',
    "ca": 'ca = "x"\nbroker = "mqtts://b"',
    "certificate": 'certificate = "x"\nkey = "y"\nbroker = "mqtts://b"',
    "key": 'certificate = "x"\nkey = "y"\nbroker = "mqtts://b"',
    "username": 'username = "x"',
    "password_file": 'username = "x"\npassword_file = "y"',
    "bandwidth": 'bandwidth = "1 MB/s"',
    "keepalive": "keepalive = 60",
    "bundle": 'bundle = "bundle"',
    "slots": 'slots = "other.json"',
    "home": 'home = "h"',
    "database": 'database = "sqlite:///other.sqlite"',
    "blobs": 'blobs = "memory://x"',
    "join": 'join = "invited"',
    "privacy": 'privacy = "plain"\nallow_plain = true',
    "allow_plain": "allow_plain = true",
    "max_devices": "max_devices = 50",
    "device_messages": "device_messages = 50",
    "device_bytes": "device_bytes = 99999",
    "device_downloads": "device_downloads = 999999",
    "device_storage": "device_storage = 99999",
    "min_devices": "min_devices = 3",
    "rounds": "rounds = 7",
    "root_rounds": "root_rounds = 1",
    "quorum": "quorum = 0.9",
    "deadline": "deadline = 7.0",
    "grace": "grace = 7.0",
    "extensions": "extensions = 7",
    "late": "late = 7",
    "staleness": "staleness = 0.7",
    "layers": 'layers = "all"',
    "rank": "rank = 16",
    "steps": "steps = 7",
    "batch_size": "batch_size = 7",
    "learning_rate": "learning_rate = 0.07",
    "seed": "seed = 7",
    "code_dimensions": "code_dimensions = 7",
    "epsilon": "epsilon = 7",
    "delta": "delta = 1e-7",
    "aggregation.method": '[aggregation]\nmethod = "fedit"',
    "aggregation.max_weight": "[aggregation]\nmax_weight = 7.0",
    "aggregation.server_rank": "[aggregation]\nserver_rank = 16",
    "aggregation.carry": "[aggregation]\ncarry = false",
    "aggregation.masked": MASKABLE.replace("[clustering]", "masked = true\n[clustering]"),
    "aggregation.colluding": '[aggregation]\nmethod = "fedit"\ncolluding = 0.2',
    "aggregation.dropping": '[aggregation]\nmethod = "fedit"\ndropping = 0.2',
    "aggregation.largest_weight": '[aggregation]\nmethod = "fedit"\nlargest_weight = 7',
    "aggregation.largest_change": '[aggregation]\nmethod = "fedit"\nlargest_change = 0.7',
    "aggregation.patience": '[aggregation]\nmethod = "fedit"\npatience = 7.0',
    "server_optimiser.method": '[server_optimiser]\nmethod = "momentum"',
    "server_optimiser.learning_rate": '[server_optimiser]\nmethod = "momentum"\nlearning_rate = 0.7',
    "server_optimiser.momentum": '[server_optimiser]\nmethod = "momentum"\nmomentum = 0.7',
    "filter.method": '[filter]\nmethod = "trim"',
    "filter.liars": '[filter]\nmethod = "trim"\nliars = 0.3',
    "clustering.method": '[clustering]\nmethod = "prompt"',
    "clustering.clusters": "[clustering]\nclusters = 7",
    "clustering.choose": '[clustering]\nchoose = "eigengap"',
    "clustering.recluster": '[clustering]\nrecluster = "drift"',
    "clustering.min_cluster": "[clustering]\nmin_cluster = 7",
    "clustering.most": LOCAL + "[clustering]\nmost = 7",
    "interaction.method": '[interaction]\nmethod = "none"',
    "interaction.rho": "[interaction]\nrho = 0.7",
    "interaction.tau": "[interaction]\ntau = 0.7",
}
# The method that a key belongs to, where that is not the default one; or what else its other value needs.
METHOD = {
    "privacy": "allow_plain = true",
    "clustering.most": LOCAL,
    "server_optimiser.learning_rate": '[server_optimiser]\nmethod = "momentum"',
    "server_optimiser.momentum": '[server_optimiser]\nmethod = "momentum"',
    "filter.liars": '[filter]\nmethod = "trim"',
    "aggregation.masked": MASKABLE,
    **dict.fromkeys(
        (
            *("aggregation.colluding", "aggregation.dropping", "aggregation.largest_weight"),
            *("aggregation.largest_change", "aggregation.patience"),
        ),
        '[aggregation]\nmethod = "fedit"',
    ),
}


def value(federation: Federation, key: str) -> Any:
    """The value of a key, or of table.key; of a place that is resolved, where it is."""
    table, _, inner = key.rpartition(".")
    of: Any = getattr(federation, table) if table else federation
    return getattr(of, {"slots": "description"}.get(inner, inner))


def test_every_key_of_the_file_is_decided_about() -> None:
    keys = set(FederationFile.__struct_fields__) - FAMILIES.keys()
    for family in FAMILIES.values():
        methods = (*family.registry.built_in, *family.offline)
        keys |= {f"{family.table}.{key}" for name in methods for key in family.settings(name).__struct_fields__}
    assert set(CHANGES) == keys == set(OTHER)


@pytest.mark.parametrize("key", OTHER)
def test_a_change_is_followed_and_said_or_refused(key: str) -> None:
    before, after = federation(METHOD.get(key, "")), federation(OTHER[key])
    assert value(before, key) != value(after, key)
    noted = settings_of(before, BASE)
    assert adopt(State(), noted, after, BASE).state == State(), "before the first round everything may change"
    under_way = started().state
    if CHANGES[key] == "fixed":
        with pytest.raises(ConfigurationError, match=rf"{key} = .*keys\.json"):
            adopt(under_way, noted, after, BASE)
        return
    adopted = adopt(under_way, noted, after, BASE)
    assert adopted.state == under_way
    said = {key: [value(before, key), value(after, key)]}
    assert adopted.changed == (said if CHANGES[key] in ("now", "next") else {})
    assert adopt(under_way, settings_of(after, BASE), after, BASE).changed == {}


def test_keys_of_other_packages_methods_are_decided_about_by_their_table() -> None:
    assert how_of("aggregation.power") == "fixed", "what was learnt may depend on it"
    assert {how_of(f"{table}.power") for table in FAMILIES if table != "aggregation"} == {"next"}


class TestFlatRecords:
    """Settings that a version with a flat file has left in the database."""

    FLAT: dict[str, Any] = {  # noqa: RUF012
        "aggregation": "product", "server_rank": 0, "carry": True, "server_optimiser": "none",
        "server_learning_rate": 0.0, "server_momentum": None, "filter": "none", "liars": 0.2, "clustering": "fused",
        "clusters": 0, "choose": "significant", "recluster": "every", "min_cluster": 2, "interaction": "attention",
        "rho": 0.1, "tau": 0.5,
    }  # fmt: skip

    def adopted(self, flat: dict[str, Any], text: str = "") -> dict[str, list[Any]]:
        after = federation(text if "[clustering]" in text else f'[clustering]\nmethod = "fused"\n{text}')
        ours = {key: old for key, old in settings_of(after, BASE).items() if "." not in key}
        return adopt(started().state, {**ours, **self.FLAT, **flat}, after, BASE).changed

    def test_the_defaults_are_the_defaults(self) -> None:
        assert self.adopted({}) == {}
        assert self.adopted({}, "[clustering]\nclusters = 0") == {"clustering.method": ["fused", "validated"]}

    @pytest.mark.parametrize(
        ("flat", "text"),
        [
            ({"server_optimiser": "adam"}, '[server_optimiser]\nmethod = "adam"'),
            (
                {"server_optimiser": "momentum", "server_learning_rate": 0.3, "server_momentum": 0.0},
                '[server_optimiser]\nmethod = "momentum"\nlearning_rate = 0.3\nmomentum = 0.0',
            ),
            ({"aggregation": "fedit", "carry": False}, '[aggregation]\nmethod = "fedit"'),
            ({"carry": False}, "[aggregation]\ncarry = false"),
            ({"server_rank": 16}, "[aggregation]\nserver_rank = 16"),
            ({"filter": "trim", "liars": 0.3}, '[filter]\nmethod = "trim"\nliars = 0.3'),
            ({"clustering": "single", "clusters": 4}, '[clustering]\nmethod = "single"'),
            ({"interaction": "none", "rho": 0.7}, '[interaction]\nmethod = "none"'),
        ],
    )
    def test_the_same_settings_are_no_change(self, flat: dict[str, Any], text: str) -> None:
        assert self.adopted(flat, text) == {}

    def test_changes_are_followed_by_their_new_names(self) -> None:
        assert self.adopted({"clusters": 3}) == {"clustering.clusters": [3, 0]}
        found = self.adopted(
            {"server_optimiser": "momentum"}, '[server_optimiser]\nmethod = "momentum"\nmomentum = 0.7'
        )
        assert found == {"server_optimiser.momentum": [0.5, 0.7]}

    def test_fixed_ones_are_refused_by_their_new_names(self) -> None:
        with pytest.raises(ConfigurationError, match=r"aggregation\.carry = False, and now aggregation\.carry is True"):
            self.adopted({"carry": False})
        with pytest.raises(ConfigurationError, match=r"aggregation\.method = 'fedit'"):
            self.adopted({"aggregation": "fedit"})
        with pytest.raises(ConfigurationError, match=r"aggregation\.method = 'gone'"):
            self.adopted({"aggregation": "gone"})


def test_what_is_noted_can_be_read_again_and_holds_no_secrets() -> None:
    noted = settings_of(federation('broker = "mqtt://me:secret@b"\ndatabase = "postgresql://me:secret@h/d"'), BASE)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(noted)) == noted
    assert "secret" not in repr(noted)


def test_other_layers_are_refused() -> None:
    noted = settings_of(federation(), BASE)
    other = BaseModel(BASE.base_id, {"layer.to_k": Shape(4, 4)})
    assert adopt(State(), noted, federation(), other).state == State()
    with pytest.raises(ConfigurationError, match="other layers"):
        adopt(started().state, noted, federation(), other)


def test_a_start_after_a_version_that_knew_one_set_of_layers() -> None:
    noted = settings_of(federation(), BASE)
    earlier = {key: value for key, value in noted.items() if key not in ("layers", "layer_shapes")}
    earlier["layers"] = noted["layer_shapes"]
    assert adopt(started().state, earlier, federation(), BASE).changed == {}
    other = BaseModel(BASE.base_id, {"layer.to_k": Shape(4, 4)})
    with pytest.raises(ConfigurationError, match="other layers"):
        adopt(started().state, earlier, federation(), other)
    with pytest.raises(ConfigurationError, match="began with layers = 'attention', and now layers is 'all'"):
        adopt(started().state, earlier, federation('layers = "all"'), other)


def test_a_start_after_a_version_that_noted_nothing() -> None:
    assert adopt(started().state, None, federation('[aggregation]\nmethod = "fedit"'), BASE).changed == {}


def test_disjoint_clusters_are_neither_begun_nor_given_up_under_way() -> None:
    disjoint = federation('[aggregation]\nmethod = "ffa"\n[interaction]\nmethod = "disjoint"')
    alone = federation('[aggregation]\nmethod = "ffa"\n[interaction]\nmethod = "none"')
    for before, after in ((disjoint, alone), (alone, disjoint)):
        with pytest.raises(ConfigurationError, match="interaction"):
            adopt(started().state, settings_of(before, BASE), after, BASE)


def ended(**changes: Any) -> Machine:
    machine = started(**changes)
    for number in (1, 2, 3):
        deliver(machine, number, *DEVICES)
    assert machine.state.phase == "finished"
    return machine


class TestRounds:
    def adopted(self, state: State, rounds: int, more: str = "") -> State:
        after = federation(f"rounds = {rounds}\n{more}")
        found = adopt(state, settings_of(federation(more), BASE), after, BASE)
        assert found.changed == ({"rounds": [3, rounds]} if rounds != 3 else {})
        assert bool(found.notes) == (found.state != state)
        return found.state

    def test_more_of_them_after_the_end_are_done(self) -> None:
        """They were accepted before, and had no effect."""
        before = ended()
        machine = Machine(rules(min_devices=4, rounds=5), self.adopted(before.state, 5))
        machine(Restarted())
        assert machine.state.phase == "training"
        machine(*(Joined(name, profile()) for name in DEVICES))
        (start,) = machine.sent("a1", RoundStart)
        assert (start.round, start.rounds) == (4, 5)
        cluster = machine.state.devices["a1"].cluster
        assert cluster is not None
        assert start.start == before.state.clusters[cluster].start, "from what was learnt"
        for number in (4, 5):
            deliver(machine, number, *DEVICES)
        assert machine.sent("a1", Finished)

    def test_those_who_were_served_before_are_waited_for_at_the_new_end(self) -> None:
        """`serve --once` ended at once before, and no device could fetch the results of the further rounds."""
        before = ended()
        before(*(Served(name) for name in DEVICES))
        assert all_served(before.rules, before.state, before.now)
        machine = Machine(rules(min_devices=4, rounds=4), self.adopted(before.state, 4))
        machine(Restarted(), *(joined(name, 2) for name in DEVICES))
        deliver(machine, 4, *DEVICES)
        assert machine.state.phase == "finished"
        assert not all_served(machine.rules, machine.state, machine.now)
        machine(*(Served(name) for name in DEVICES))
        assert all_served(machine.rules, machine.state, machine.now)

    def test_so_are_they_by_a_method_that_folds(self) -> None:
        state = replace(ended().state, clusters={0: Lineage(manifest("whole")), 1: Lineage(manifest("other"))})
        more = '[aggregation]\nmethod = "flora"\n[interaction]\nmethod = "none"'
        found = self.adopted(state, 5, more)
        assert found.clusters == {0: Lineage(folded=manifest("whole")), 1: Lineage(folded=manifest("other"))}

    def test_where_none_can_follow_they_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="set rounds = 3"):
            self.adopted(ended().state, 5, '[aggregation]\nmethod = "ffa"\n[interaction]\nmethod = "disjoint"')

    def test_as_many_as_before_change_nothing(self) -> None:
        state = ended().state
        assert self.adopted(state, 3) == state

    def test_fewer_than_are_closed_end_it(self) -> None:
        machine = started()
        for number in (1, 2):
            deliver(machine, number, *DEVICES)
        waiting = replace(machine.state, phase="gathering", current=None)
        machine = Machine(rules(min_devices=4, rounds=2), self.adopted(waiting, 2))
        machine(Restarted(), Joined("a1", profile()))
        assert machine.state.phase == "finished"
        assert machine.sent("a1", Finished)

    def test_an_open_round_is_closed_first(self) -> None:
        machine = started()
        deliver(machine, 1, *DEVICES)
        assert self.adopted(machine.state, 1) == machine.state
        machine = Machine(rules(min_devices=4, rounds=1), machine.state)
        machine(Restarted())
        deliver(machine, 2, *DEVICES)
        assert machine.state.phase == "finished"


def test_another_server_optimiser_begins_without_memory() -> None:
    lineage = Lineage(manifest("x"), moments="m" * 64)
    state = replace(started().state, clusters={0: lineage})
    momentum, adam = (federation(f'[server_optimiser]\nmethod = "{name}"') for name in ("momentum", "adam"))
    found = adopt(state, settings_of(momentum, BASE), adam, BASE)
    assert found.state.clusters == {0: Lineage(manifest("x"))}
    assert found.notes == ["the server optimiser begins without a memory of earlier rounds"]


def test_the_page_lists_them() -> None:
    page = (Path(__file__).parents[3] / "docs" / "coordinator.md").read_text("utf-8")
    section = page.split("## A file that is changed")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", section, flags=re.MULTILINE)[1:]
    listed = {key: how for how, cell in rows for key in re.findall(r"`([\w.]+)`", cell)}
    words = {
        "place": "checked against what is there",
        "connection": "at once",
        "now": "at once, and said",
        "next": "from the next round on, and said",
        "fixed": "refused",
    }
    assert listed == {key: words[how] for key, how in CHANGES.items()}


@pytest.mark.parametrize("texts", [("", LOCAL), (LOCAL, "")])
def test_a_started_federation_keeps_to_its_devices_choice_of_clusters(texts: tuple[str, str]) -> None:
    """Codes that left devices cannot be taken back, and clusters that devices chose are known to nobody else."""
    before, after = (federation(text) for text in texts)
    noted = {**settings_of(before, BASE), "aggregation.method": after.aggregation.method, "aggregation.masked": False}
    with pytest.raises(ConfigurationError, match=r"privacy = .*keys\.json"):
        adopt(started().state, noted, after, BASE)
