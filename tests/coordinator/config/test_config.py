"""The federation file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from coordinator import config
from coordinator.config import FederationFile
from coordinator.config.tables import FAMILIES
from coordinator.methods.aggregation import AGGREGATORS
from coordinator.methods.clustering import ByPicture, Validated
from coordinator.methods.optimisers import Adam
from coordinator.methods.robust import Trusting
from edge_sdk.adapter import LAYER_SETS, Shape, to_bytes
from edge_sdk.errors import ConfigurationError
from tests.coordinator.adapters import BASE_ID, SLOTS, random_adapter

BASIS = bytes(range(32))


def write_bundle(folder: Path) -> Path:
    folder.mkdir(parents=True)
    slots = [{"name": name, "in_features": i, "out_features": o} for name, (i, o, _) in SLOTS.items()]
    content = {"format": 1, "base_id": BASE_ID, "pipeline": "StableDiffusionPipeline", "slots": slots, "files": {}}
    content["prompt_basis"] = {"id": BASIS.hex()}
    (folder / "impasto.json").write_text(json.dumps(content))
    return folder


def parse(text: str, folder: Path = Path("/somewhere")) -> config.Federation:
    return config.parse(text, folder=folder)


MINIMAL = 'name = "stickers"\nbundle = "bundle"\n'
PLAIN = 'privacy = "plain"\nallow_plain = true\n'


def of(table: str, keys: str) -> str:
    """A file with this table."""
    return f"{MINIMAL}[{table}]\n{keys}\n"


def test_defaults_and_paths() -> None:
    federation = parse(MINIMAL)
    assert federation.bundle == Path("/somewhere/bundle")
    assert federation.description == Path("/somewhere/bundle/impasto.json")
    assert federation.home == Path("/somewhere/stickers.coordinator")
    assert federation.database == "sqlite:////somewhere/stickers.coordinator/coordinator.sqlite"
    assert federation.database_file == Path("/somewhere/stickers.coordinator/coordinator.sqlite")
    assert parse(MINIMAL + 'database = "postgresql://h/d"').database_file is None
    assert federation.blobs == "/somewhere/stickers.coordinator/blobs"


def test_paths_are_seen_from_the_files_folder_wherever_it_is_served_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Database and blobs were looked for in the folder that `serve` was started in: started elsewhere, all was lost."""
    monkeypatch.setenv("HOME", "/home/anna")
    places = 'home = "~/h"\nblobs = "b"\ndatabase = "sqlite:///d.sqlite?timeout=9"\n'
    federation = parse(MINIMAL + places)
    assert federation.home == Path("/home/anna/h")
    assert federation.blobs == "/somewhere/b"
    assert federation.database == "sqlite:////somewhere/d.sqlite?timeout=9"
    for url in ("sqlite:////var/d.sqlite", "sqlite+pysqlite:////d", "postgresql://u:p@h/d"):
        assert parse(f'{MINIMAL}database = "{url}"\n').database == url
    assert parse(f'{MINIMAL}database = "sqlite+pysqlite:///~/d"\n').database == "sqlite+pysqlite:////home/anna/d"
    assert parse(f'{MINIMAL}blobs = "s3://bucket/b"\n').blobs == "s3://bucket/b"
    copied = parse('name = "a"\nslots = "~/impasto.json"\n')
    assert (copied.bundle, copied.description) == (None, Path("/home/anna/impasto.json"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (MINIMAL + 'database = "sqlite://"', "lies in memory"),
        (MINIMAL + 'database = "sqlite:///:memory:"', "lies in memory"),
        ("name =", "TOML"),
        ('bundle = "b"', "name"),
        ('name = "a/b"\nbundle = "b"', "name"),
        ('name = "a"', "bundle"),
        (MINIMAL + 'slots = "s.json"', "slots"),
        (MINIMAL + "ronds = 3", "there is no key 'ronds': did you mean 'rounds'?"),
        (MINIMAL + "pi = 3", "there is no key 'pi': see docs"),
        (MINIMAL + "rounds = 0", "rounds"),
        (MINIMAL + 'rounds = "many"', "rounds"),
        (MINIMAL + "rounds = 2\nroot_rounds = 3", "root_rounds"),
        (MINIMAL + "quorum = 0", "quorum"),
        (MINIMAL + "deadline = -1", "deadline"),
        (MINIMAL + "learning_rate = nan", "learning_rate"),
        (
            of("aggregation", 'method = "magic"'),
            r"\[aggregation\] method = 'magic' is unknown; use one of product",
        ),
        (of("aggregation", "method = 3"), r"\[aggregation\] method must be a name in quotes"),
        (of("aggregation", "max_weight = 0.5"), r"\[aggregation\].*max_weight"),
        (of("clustering", 'method = "magic"'), r"\[clustering\] method = 'magic'"),
        (of("clustering", 'choose = "magic"'), "choose = 'magic' is unknown; use one of silhouette, eigengap"),
        (of("clustering", 'recluster = "magic"'), "recluster"),
        (of("clustering", 'method = "ifca"'), "set clusters to it"),
        (of("interaction", 'method = "magic"'), r"\[interaction\] method = 'magic'"),
        (of("interaction", "rho = 2"), r"\[interaction\].*rho"),
        (of("filter", 'method = "trim"\nliars = 0.5'), r"\[filter\].*liars"),
        (of("server_optimiser", 'method = "magic"'), "method = 'magic' is unknown; use one of none, momentum"),
        (of("server_optimiser", 'method = "adam"\nlearning_rate = 0'), r"\[server_optimiser\].*learning_rate"),
        (
            of("server_optimiser", 'method = "momentum"\n[aggregation]\nserver_rank = 512'),
            "ranks below 512 to each, not 512",
        ),
        (of("aggregation", 'method = "flora"'), r"\[interaction\] method = 'attention' mixes whole"),
        (of("aggregation", 'method = "fedsa"'), r"\[interaction\] method = 'attention' mixes whole"),
        ("root_rounds = 1\n" + of("aggregation", 'method = "fedsa"'), "no root adapter: set root_rounds = 0"),
        (
            of("interaction", 'method = "none"\n[server_optimiser]\nmethod = "adam"\n[aggregation]\nmethod = "flora"'),
            r"\[server_optimiser\] method = 'adam' steps from one",
        ),
        (of("aggregation", "server_rank = 4"), "server_rank = 4 is less than rank = 8"),
        (of("aggregation", "server_rank = 16\ncarry = false"), "server_rank = 16 has no effect with carry = false"),
        (of("interaction", 'method = "disjoint"'), r"\[interaction\] method = 'disjoint' holds only while"),
        (MINIMAL + "late = -1", "late"),
        (MINIMAL + 'ca = "ca.pem"', "mqtts://"),
        (MINIMAL + 'broker = "mqtts://b"\ncertificate = "c.pem"', "`certificate` and `key`"),
        (MINIMAL + 'bandwidth = "fast"', "bandwidth of 'fast'.*512 KB/s"),
        (MINIMAL + "keepalive = 0", "keepalive"),
        (MINIMAL + "keepalive = 86400", "keepalive"),
        (MINIMAL + 'password_file = "p"', "password_file needs `username`"),
        (MINIMAL + "staleness = -0.1", "staleness"),
    ],
)
def test_errors_name_the_key(text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        parse(text)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("carry = true", ["write carry under [aggregation]"]),
        ("server_rank = 16", ["write server_rank under [aggregation]"]),
        ("max_weight = 2.0", ["write max_weight under [aggregation]"]),
        ('aggregation = "product"', ['write aggregation = "product" as method = "product" under [aggregation]']),
        ("server_momentum = 0.7", ["write server_momentum as momentum under [server_optimiser]"]),
        ("server_learning_rate = 1.0", ["server_learning_rate as learning_rate under [server_optimiser]"]),
        ("clusters = 3", ["write clusters under [clustering]"]),
        ("tau = 0.3", ["write tau under [interaction]"]),
        (
            'filter = "trim"\nliars = 0.1\nrho = 0.3\nrecluster = "drift"',
            [
                *('filter = "trim" as method = "trim" under [filter]', "liars under [filter]"),
                *("rho under [interaction]", "recluster under [clustering]"),
            ],
        ),
        ("aggregation = 3", ["[aggregation] is a table: write its keys on the lines below [aggregation]"]),
    ],
)
def test_a_flat_file_of_earlier_versions_is_told_what_to_write(keys: str, said: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(MINIMAL + keys)
    assert all(words in str(caught.value) for words in said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (of("filter", "liars = 0.1"), "[filter] method = 'none' has no key 'liars', which is a key of krum and trim"),
        (of("filter", 'method = "clip"\nliars = 0.1'), "method = 'clip' has no key 'liars', which is a key of krum"),
        (of("server_optimiser", "momentum = 0.7"), "has no key 'momentum', which is a key of momentum and adam"),
        (of("aggregation", 'method = "fedit"\ncarry = true'), "has no key 'carry', which is a key of product: choose"),
        (
            of("clustering", 'method = "single"\nclusters = 3'),
            "is a key of fused, prompt, adapter, picture, validated, sums and ifca",
        ),
        (of("interaction", 'method = "none"\nrho = 0.3'), "has no key 'rho', which is a key of attention"),
        (of("interaction", "carry = true"), "has no key 'carry': write carry under [aggregation]"),
        (of("filter", "server_momentum = 0.3"), "write server_momentum as momentum under [server_optimiser]"),
        (of("interaction", "rounds = 3"), "it is a key of the file, to be written above the first [table]"),
        (of("interaction", "ro = 0.3"), "method = 'attention' has no key 'ro': did you mean 'rho'?"),
        (of("interaction", "pi = 3"), "has no key 'pi'. See docs/coordinator.md"),
    ],
)
def test_a_key_of_another_method_or_table_says_whose_it_is(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert said in str(caught.value)


def test_a_table_without_a_method_is_of_the_default() -> None:
    federation = parse(of("clustering", "clusters = 3"))
    assert federation.clustering == Validated(clusters=3)
    assert parse(MINIMAL).aggregation == AGGREGATORS["product"].Settings(method="product")
    assert parse(MINIMAL).filter == Trusting()


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="impasto-coordinator init"):
        config.load(tmp_path / "none.toml")


def test_the_template_is_a_federation_file_with_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "stickers.toml"
    path.write_text(config.template("stickers", "my bundle", "mqtt://127.0.0.1:1883"))
    (tmp_path / "plain.toml").write_text('name = "stickers"\nbundle = "my bundle"\n')
    assert config.load(path) == config.load(tmp_path / "plain.toml")


def test_the_template_teaches_every_key(tmp_path: Path) -> None:
    """Every key of the file is in the template, with its default or as a comment."""
    table, found = "", set()
    for line in config.template("stickers", "bundle", "mqtt://b").splitlines():
        if header := re.match(r"\[(\w+)\]", line):
            table = f"{header[1]}."
        elif key := re.match(r"(?:# )?(\w+) = ", line):
            assert "#" in line.removeprefix("# "), f"{line} has no comment"
            found.add(table + key[1])
    wanted = set(FederationFile.__struct_fields__) - FAMILIES.keys()
    for family in FAMILIES.values():
        methods = (*family.registry.built_in, *family.offline)
        wanted |= {f"{family.table}.{key}" for name in methods for key in family.settings(name).__struct_fields__}
    assert found | {"slots"} == wanted


def test_the_base_model_comes_from_the_bundle_or_a_copy_of_its_description(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    from_bundle = config.read_base_model(parse(MINIMAL, tmp_path).description)
    assert from_bundle == config.BaseModel(base_id=BASE_ID, slots=SLOTS, basis=BASIS)
    (bundle / "impasto.json").rename(tmp_path / "copy.json")
    assert config.read_base_model(parse('name = "s"\nslots = "copy.json"', tmp_path).description) == from_bundle
    with pytest.raises(ConfigurationError, match="impasto-export"):
        config.read_base_model(parse(MINIMAL, tmp_path).description)


def test_slots_that_devices_do_not_train_are_left_out(tmp_path: Path) -> None:
    """A bundle with all slots, exported for drawing with shared files, can be used too."""
    bundle = write_bundle(tmp_path / "bundle")
    content = json.loads((bundle / "impasto.json").read_text())
    convolution = {"name": "unet.mid.conv1", "in_features": 36, "out_features": 4, "kernel": [3, 3]}
    content["slots"].append(convolution)
    (bundle / "impasto.json").write_text(json.dumps(content))
    assert config.read_base_model(parse(MINIMAL, tmp_path).description).slots == SLOTS
    whole = config.read_base_model(parse(MINIMAL, tmp_path).description, "all").slots
    assert whole == {**SLOTS, "unet.mid.conv1": Shape(36, 4, (3, 3))}
    (bundle / "impasto.json").write_text(json.dumps({**content, "slots": [convolution]}))
    with pytest.raises(ConfigurationError, match=r"no LoRA slots .*layers = 'attention'.*--slots attention"):
        config.read_base_model(parse(MINIMAL, tmp_path).description)


@pytest.mark.parametrize(("key", "choices"), [("layers", LAYER_SETS), ("join", ("open", "invited"))])
def test_a_word_that_a_key_does_not_have_is_answered_with_those_it_has(
    key: str, choices: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=rf"'some'.*\$\.{key}.*one of {', '.join(choices)}"):
        parse(f'{MINIMAL}\n{key} = "some"', tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"base_id": "x", "slots": []}', '{"base_id": "x"}'])
def test_a_broken_description_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "impasto.json").write_text(content)
    with pytest.raises(ConfigurationError, match="impasto"):
        config.read_base_model(tmp_path / "impasto.json")


def test_every_adapter_of_the_announced_rank_fits_the_size_limit() -> None:
    base = config.BaseModel(base_id=BASE_ID, slots=SLOTS)
    for rank in (1, 4, 16):
        assert len(to_bytes(random_adapter(0, rank))) <= base.update_size(rank)
        assert base.update_size(rank) < base.update_size(rank + 1)


def test_methods_without_mixed_ranks_demand_the_rank() -> None:
    base = config.BaseModel(BASE_ID, SLOTS, BASIS)
    assert parse(MINIMAL).rules(base).min_rank == 1
    assert parse("rank = 6\n" + of("aggregation", 'method = "fedit"')).rules(base).min_rank == 6


def test_what_follows_from_the_keys() -> None:
    assert parse(MINIMAL).connection().bandwidth is None
    assert parse(MINIMAL + 'bandwidth = "512 KB/s"').connection().bandwidth == 512_000
    assert parse(MINIMAL).connection().keepalive == 30
    assert parse(MINIMAL + "keepalive = 5").connection().keepalive == 5
    assert parse(MINIMAL).carries
    assert not parse(of("aggregation", "carry = false")).carries
    assert not parse(of("aggregation", 'method = "fedit"')).carries
    assert parse(MINIMAL + "rank = 6").group_rank == 6
    assert parse("rank = 6\n" + of("aggregation", "server_rank = 12")).group_rank == 12
    assert parse(of("server_optimiser", 'method = "adam"')).server_optimiser == Adam(learning_rate=0.01, momentum=0.9)
    assert parse(of("server_optimiser", 'method = "adam"\nlearning_rate = 0.1')).server_optimiser.learning_rate == 0.1


def test_the_length_of_a_prompt_code_is_the_bases_or_the_files() -> None:
    cross = {name: Shape(768, 320) for name in ("unet.a.attn2.to_k", "unet.a.attn2.to_v")}
    base = config.BaseModel(BASE_ID, {"unet.a.attn1.to_q": Shape(320, 320), **cross})
    assert parse(MINIMAL + PLAIN).rules(base).code_size == 4 * 768
    assert parse(MINIMAL + PLAIN + "code_dimensions = 16").rules(base).code_size == 64
    assert parse(MINIMAL + PLAIN).rules(config.BaseModel(BASE_ID, SLOTS)).code_size is None


class TestPrivacy:
    def test_the_default_is_coarse_with_the_bundles_basis(self, tmp_path: Path) -> None:
        base = config.read_base_model(write_bundle(tmp_path / "bundle") / "impasto.json")
        rules = parse(MINIMAL).rules(base)
        assert (rules.privacy, rules.basis, rules.code_size) == ("coarse", BASIS, 16)
        assert config.settings_of(parse(MINIMAL), base)["privacy"] == "coarse"

    def test_plain_is_refused_unless_it_is_allowed(self) -> None:
        with pytest.raises(ConfigurationError, match=r"every caption.*allow_plain = true"):
            parse(MINIMAL + 'privacy = "plain"\n')
        federation = parse(MINIMAL + PLAIN)
        assert (federation.privacy, federation.level.name) == ("plain", "plain")
        assert federation.rules(config.BaseModel(BASE_ID, SLOTS)).basis == b""

    def test_an_unknown_level_is_named(self) -> None:
        with pytest.raises(ConfigurationError, match=r"one of plain, coarse"):
            parse(MINIMAL + 'privacy = "secret"\n')

    def test_the_bundle_of_an_earlier_version_is_to_be_exported_again(self, tmp_path: Path) -> None:
        file = write_bundle(tmp_path / "bundle") / "impasto.json"
        content = json.loads(file.read_text())
        del content["prompt_basis"]
        file.write_text(json.dumps(content))
        with pytest.raises(ConfigurationError, match=r"impasto\.json has no public basis.*impasto-export"):
            parse(MINIMAL).rules(config.read_base_model(file))
        assert parse(MINIMAL + PLAIN).rules(config.read_base_model(file)).basis == b""

    def test_a_basis_that_makes_no_sense_is_refused(self, tmp_path: Path) -> None:
        file = write_bundle(tmp_path / "bundle") / "impasto.json"
        file.write_text(file.read_text().replace(BASIS.hex(), "x"))
        with pytest.raises(ConfigurationError, match=r"impasto\.json"):
            config.read_base_model(file)

    def test_keys_of_plain_have_no_effect_elsewhere(self) -> None:
        idle = config.without_effect(parse(MINIMAL + "allow_plain = true\ncode_dimensions = 7\n"))
        assert idle == ['allow_plain, code_dimensions: without effect, as privacy = "coarse"']
        assert config.without_effect(parse(MINIMAL + PLAIN)) == []


def test_picture_codes_are_those_of_the_bundles_image_encoder(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    base = config.read_base_model(bundle / "impasto.json")
    assert parse(MINIMAL).rules(base).picture_size is None
    content = json.loads((bundle / "impasto.json").read_text("utf-8"))
    encoder = {"id": "e" * 64, "resize": 28, "size": 24, "mean": [0.5] * 3, "std": [0.5] * 3, "dimensions": 40}
    (bundle / "impasto.json").write_text(json.dumps(content | {"image_encoder": encoder}))
    base = config.read_base_model(bundle / "impasto.json")
    coarse, plain = parse(MINIMAL).rules(base), parse(MINIMAL + PLAIN).rules(base)
    assert (coarse.picture_size, plain.picture_size) == (32, 160)
    assert coarse.picture_encoder == plain.picture_encoder == bytes.fromhex("e" * 64)
    for wrong in ({"dimensions": 0}, {"id": "e"}):
        (bundle / "impasto.json").write_text(json.dumps(content | {"image_encoder": encoder | wrong}))
        with pytest.raises(ConfigurationError, match=rf"{next(iter(wrong))}.*impasto-export MODEL BUNDLE"):
            config.read_base_model(bundle / "impasto.json")


def test_each_clusterer_has_a_rule_of_its_own() -> None:
    assert parse(of("clustering", 'method = "picture"')).clustering == ByPicture(choose="bic")
    assert parse(of("clustering", 'method = "validated"')).clustering == Validated(choose="significant")
    assert parse(of("clustering", 'method = "picture"\nchoose = "silhouette"')).clustering.choose == "silhouette"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('broker = "mqtt://b"\nca = "ca.pem"', "ca would have no effect: mqtt:// is not encrypted"),
        ('broker = "mqtt://b"\ncertificate = "c.pem"\nkey = "c.key"', "certificate and key would have no effect"),
        ('broker = "mqtt://b"\nkey = "c.key"', "key would have no effect"),
        ('broker = "mqtts://b"\nkey = "c.key"', "without its certificate"),
        ('broker = "mqtts://:s3cret@b"', "without a user name"),
        ('broker = "mqtt://anna@b"\nusername = "ben"', "two: a user name"),
        ('broker = "mqtt://anna:s3cret@b"\npassword_file = "p"', "two: a password"),
        ('broker = "mqtt://anna:s3#cret@b"', "%23"),
        ('broker = "mqtt://b:70000"', "1 to 65535"),
        ('broker = "http://b"', "mqtt://host:port"),
        ('broker = "mqtt://b/path"', "no path"),
    ],
)
def test_what_would_have_no_effect_on_the_way_to_the_broker_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.parse(f'name = "stickers"\nbundle = "bundle"\n{text}', folder=Path())
    assert words in str(caught.value)
    assert "s3" not in str(caught.value)
    assert "cret" not in str(caught.value)


def test_the_user_may_be_in_the_url_and_the_password_apart(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(" s3cret \n", "utf-8")
    text = 'name = "stickers"\nbundle = "bundle"\nbroker = "mqtt://anna@b"\npassword_file = "password"'
    federation = config.parse(text, folder=tmp_path)
    assert federation.connection().credentials == ("anna", " s3cret ")
    file = config.FederationFile(name="stickers", broker="mqtt://anna:s3cret@b", database="postgresql://me:s3cret@h/d")
    assert "s3cret" not in repr(federation) + repr(federation.connection()) + repr(file)
    (tmp_path / "password").write_text("\n", "utf-8")
    with pytest.raises(ConfigurationError, match="is empty"):
        federation.connection()
    (tmp_path / "password").write_bytes(b"\xff s3cret")
    with pytest.raises(ConfigurationError, match=r"password: it is no text in UTF-8"):
        federation.connection()


@pytest.mark.parametrize(
    ("text", "keys", "cause"),
    [
        ("[interaction]\nrho = 0.0\ntau = 0.1", "interaction.tau", "rho = 0"),
        (
            '[clustering]\nmethod = "single"\n[interaction]\nrho = 0.3',
            "interaction.rho",
            "there is a single cluster",
        ),
        ("[clustering]\nclusters = 1\n[interaction]\ntau = 0.3", "interaction.tau", "clusters = 1"),
        ("[clustering]\nclusters = 1\nmin_cluster = 3", "clustering.min_cluster", "clusters = 1"),
        (
            'root_rounds = 5\n[interaction]\nmethod = "none"',
            "interaction.method",
            "all rounds train the root (root_rounds = 5)",
        ),
        (
            "root_rounds = 5\n[interaction]\nrho = 0.0\ntau = 0.3",
            "interaction.rho, interaction.tau",
            "all rounds train the root (root_rounds = 5)",
        ),
        ("rounds = 1\nlate = 1", "late", "rounds = 1"),
        (
            'late = 1\n[aggregation]\nmethod = "rolora"',
            "late",
            '[aggregation] method = "rolora" trains other factors in the next round (late = 2 reaches the one '
            "after it)",
        ),
        ("staleness = 1.0", "staleness", "late = 0"),
        (
            '[aggregation]\nmethod = "fedit"\ncolluding = 0.2\npatience = 9.0',
            "aggregation.colluding, aggregation.patience",
            "masked = false",
        ),
        (
            'min_devices = 3\n[aggregation]\nmethod = "fedit"\nmasked = true\nmax_weight = 2.0\n[clustering]\n'
            'method = "single"',
            "aggregation.max_weight",
            "masked = true (largest_weight limits the weights)",
        ),
        ('[clustering]\nclusters = 3\nchoose = "eigengap"', "clustering.choose", "clusters = 3"),
    ],
)
def test_keys_that_nothing_heeds_are_told(text: str, keys: str, cause: str) -> None:
    federation = config.parse(f'name = "stickers"\nbundle = "bundle"\n{text}', folder=Path())
    assert config.without_effect(federation) == [f"{keys}: without effect, as {cause}"]


@pytest.mark.parametrize(
    "text",
    [
        '[filter]\nmethod = "trim"\nliars = 0.1',
        "[interaction]\nrho = 0.0",
        "rounds = 2\nroot_rounds = 1\n[interaction]\nrho = 0.3",
        'late = 2\n[aggregation]\nmethod = "rolora"',
        "[clustering]\nclusters = 1",
        '[clustering]\nmethod = "single"',
    ],
)
def test_keys_that_are_heeded_are_not(text: str) -> None:
    assert not config.without_effect(parse(f"{MINIMAL}{text}"))


def test_a_byte_order_mark_is_no_part_of_a_federation_file(tmp_path: Path) -> None:
    """Editors add it unseen."""
    (tmp_path / "a.toml").write_text(config.template("a", "b", "mqtt://x"), "utf-8-sig")
    assert config.load(tmp_path / "a.toml").name == "a"


def test_of_what_init_writes_everything_is_heeded() -> None:
    assert not config.without_effect(config.parse(config.template("a", "b", "mqtt://x"), folder=Path()))


def test_what_the_package_reads_is_packed_with_it() -> None:
    """Files that are no modules lie in an installed package only if pyproject.toml says so."""
    root = Path(__file__).parents[3]
    text = (root / "pyproject.toml").read_text("utf-8").split("[tool.setuptools.package-data]")[1].split("\n[")[0]
    for package in ("edge_sdk", "coordinator", "export"):
        packed = set(json.loads(re.findall(rf"^{package} = (\[.*\])$", text, flags=re.MULTILINE)[0]))
        folder = root / package
        other = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert packed == {name for name in other if not name.endswith((".py", ".pyc"))}
