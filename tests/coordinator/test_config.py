"""The federation file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator import config
from edge_sdk.adapter import Shape, to_bytes
from edge_sdk.errors import ConfigurationError
from tests.coordinator.adapters import BASE_ID, SLOTS, random_adapter


def write_bundle(folder: Path) -> Path:
    folder.mkdir(parents=True)
    slots = [{"name": name, "in_features": i, "out_features": o} for name, (i, o, _) in SLOTS.items()]
    content = {"format": 1, "base_id": BASE_ID, "pipeline": "StableDiffusionPipeline", "slots": slots, "files": {}}
    (folder / "impasto.json").write_text(json.dumps(content))
    return folder


def parse(text: str, folder: Path = Path("/somewhere")) -> config.Federation:
    return config.parse(text, folder=folder)


MINIMAL = 'name = "stickers"\nbundle = "bundle"\n'


def test_defaults_and_paths() -> None:
    federation = parse(MINIMAL)
    assert federation.bundle == "/somewhere/bundle"
    assert federation.home == "/somewhere/stickers.coordinator"
    assert federation.database == "sqlite:////somewhere/stickers.coordinator/coordinator.sqlite"
    assert federation.blobs == "/somewhere/stickers.coordinator/blobs"


def test_paths_are_seen_from_the_files_folder_wherever_it_is_served_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database and blobs were sought in the folder that `serve` was started in: from another one, all was lost."""
    monkeypatch.setenv("HOME", "/home/anna")
    places = 'home = "~/h"\nblobs = "b"\ndatabase = "sqlite:///d.sqlite?timeout=9"\n'
    federation = parse(MINIMAL + places)
    assert federation.home == "/home/anna/h"
    assert federation.blobs == "/somewhere/b"
    assert federation.database == "sqlite:////somewhere/d.sqlite?timeout=9"
    for url in ("sqlite:////var/d.sqlite", "sqlite+pysqlite:////d", "postgresql://u:p@h/d"):
        assert parse(f'{MINIMAL}database = "{url}"\n').database == url
    assert parse(f'{MINIMAL}database = "sqlite+pysqlite:///~/d"\n').database == "sqlite+pysqlite:////home/anna/d"
    assert parse(f'{MINIMAL}blobs = "s3://bucket/b"\n').blobs == "s3://bucket/b"
    assert parse('name = "a"\nslots = "~/impasto.json"\n').slots == "/home/anna/impasto.json"


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
        (MINIMAL + 'aggregation = "magic"', "aggregation = 'magic' is unknown; use one of product, fedit"),
        (MINIMAL + 'clustering = "magic"', "clustering"),
        (MINIMAL + 'choose = "magic"', "choose = 'magic' is unknown; use one of silhouette, eigengap"),
        (MINIMAL + 'recluster = "magic"', "recluster"),
        (MINIMAL + 'interaction = "magic"', "interaction"),
        (MINIMAL + 'server_optimiser = "magic"', "server_optimiser = 'magic' is unknown; use one of none, momentum"),
        (MINIMAL + "server_momentum = 0.7", "server_momentum is of a server optimiser, and there is none"),
        (MINIMAL + "server_learning_rate = 0.5", "server_learning_rate is of a server optimiser"),
        (MINIMAL + 'server_optimiser = "momentum"\nserver_rank = 512', "ranks below 512 to each, not 512"),
        (MINIMAL + 'aggregation = "flora"', "interaction = 'attention' mixes whole"),
        (MINIMAL + 'aggregation = "fedsa"\nroot_rounds = 0', "interaction = 'attention' mixes whole"),
        (
            MINIMAL + 'interaction = "none"\nserver_optimiser = "adam"\naggregation = "flora"',
            "server_optimiser = 'adam' steps from one",
        ),
        (MINIMAL + "server_rank = 4", "server_rank = 4 is less than rank = 8"),
        (MINIMAL + 'server_rank = 16\naggregation = "fedit"', "server_rank = 16 is more than devices train"),
        (MINIMAL + "server_rank = 16\ncarry = false", "server_rank = 16 is more than devices train"),
        (MINIMAL + 'interaction = "disjoint"', "interaction = 'disjoint' holds only while devices keep A"),
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


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="impasto-coordinator init"):
        config.load(tmp_path / "none.toml")


def test_the_template_is_a_federation_file_with_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "stickers.toml"
    path.write_text(config.template("stickers", "my bundle", "mqtt://127.0.0.1:1883"))
    (tmp_path / "plain.toml").write_text('name = "stickers"\nbundle = "my bundle"\n')
    assert config.load(path) == config.load(tmp_path / "plain.toml")


def test_the_base_model_comes_from_the_bundle_or_a_copy_of_its_description(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    from_bundle = config.read_base_model(parse(MINIMAL, tmp_path))
    assert from_bundle == config.BaseModel(base_id=BASE_ID, slots=SLOTS)
    (bundle / "impasto.json").rename(tmp_path / "copy.json")
    assert config.read_base_model(parse('name = "s"\nslots = "copy.json"', tmp_path)) == from_bundle
    with pytest.raises(ConfigurationError, match="impasto-export"):
        config.read_base_model(parse(MINIMAL, tmp_path))


def test_slots_that_devices_do_not_train_are_left_out(tmp_path: Path) -> None:
    """A bundle exported with all slots, for drawing with shared files, serves as well."""
    bundle = write_bundle(tmp_path / "bundle")
    content = json.loads((bundle / "impasto.json").read_text())
    convolution = {"name": "unet.mid.conv1", "in_features": 36, "out_features": 4, "kernel": [3, 3]}
    content["slots"].append(convolution)
    (bundle / "impasto.json").write_text(json.dumps(content))
    assert config.read_base_model(parse(MINIMAL, tmp_path)).slots == SLOTS
    (bundle / "impasto.json").write_text(json.dumps({**content, "slots": [convolution]}))
    with pytest.raises(ConfigurationError, match="no LoRA slot that devices train"):
        config.read_base_model(parse(MINIMAL, tmp_path))


@pytest.mark.parametrize("content", ["", "[]", '{"base_id": "x", "slots": []}', '{"base_id": "x"}'])
def test_a_broken_description_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "impasto.json").write_text(content)
    with pytest.raises(ConfigurationError, match="impasto"):
        config.read_base_model(parse('name = "s"\nslots = "impasto.json"', tmp_path))


def test_every_adapter_of_the_announced_rank_fits_the_size_limit() -> None:
    base = config.BaseModel(base_id=BASE_ID, slots=SLOTS)
    for rank in (1, 4, 16):
        assert len(to_bytes(random_adapter(0, rank))) <= base.update_size(rank)
        assert base.update_size(rank) < base.update_size(rank + 1)


def test_methods_without_mixed_ranks_demand_the_rank() -> None:
    assert parse(MINIMAL).rules(config.BaseModel(BASE_ID, SLOTS)).min_rank == 1
    assert parse(MINIMAL + 'aggregation = "fedit"\nrank = 6').rules(config.BaseModel(BASE_ID, SLOTS)).min_rank == 6


def test_what_follows_from_the_keys() -> None:
    assert parse(MINIMAL).connection().bandwidth is None
    assert parse(MINIMAL + 'bandwidth = "512 KB/s"').connection().bandwidth == 512_000
    assert parse(MINIMAL).connection().keepalive == 30
    assert parse(MINIMAL + "keepalive = 5").connection().keepalive == 5
    assert parse(MINIMAL).carries
    assert not parse(MINIMAL + "carry = false").carries
    assert not parse(MINIMAL + 'aggregation = "fedit"').carries
    assert parse(MINIMAL + "rank = 6").group_rank == 6
    assert parse(MINIMAL + "rank = 6\nserver_rank = 12").group_rank == 12
    assert parse(MINIMAL + 'server_optimiser = "adam"').pace.learning_rate == 0.01
    assert parse(MINIMAL + 'server_optimiser = "adam"\nserver_learning_rate = 0.1').pace.learning_rate == 0.1


def test_the_length_of_a_prompt_code_is_the_bases_or_the_files() -> None:
    cross = {name: Shape(768, 320) for name in ("unet.a.attn2.to_k", "unet.a.attn2.to_v")}
    base = config.BaseModel(BASE_ID, {"unet.a.attn1.to_q": Shape(320, 320), **cross})
    assert parse(MINIMAL).rules(base).code_dimensions == 768
    assert parse(MINIMAL + "code_dimensions = 16").rules(base).code_dimensions == 16
    assert parse(MINIMAL).rules(config.BaseModel(BASE_ID, SLOTS)).code_dimensions is None


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
    assert "s3cret" not in repr(federation) + repr(federation.connection())
    (tmp_path / "password").write_text("\n", "utf-8")
    with pytest.raises(ConfigurationError, match="is empty"):
        federation.connection()
    (tmp_path / "password").write_bytes(b"\xff s3cret")
    with pytest.raises(ConfigurationError, match=r"password: it is no text in UTF-8"):
        federation.connection()


@pytest.mark.parametrize(
    ("text", "keys", "cause"),
    [
        ('interaction = "none"\nrho = 0.3\ntau = 0.1', "rho, tau", 'interaction = "none"'),
        ("liars = 0.1", "liars", 'filter = "none"'),
        ('filter = "clip"\nliars = 0.1', "liars", 'filter = "clip"'),
        ('filter = "median"\nliars = 0.1', "liars", 'filter = "median"'),
        ("rho = 0.0\ntau = 0.1", "tau", "rho = 0"),
        ('clustering = "single"\nrho = 0.3', "rho", "there is a single cluster"),
        ("clusters = 1\ntau = 0.3", "tau", "clusters = 1"),
        ("clusters = 1\nmin_cluster = 3", "min_cluster", "clusters = 1"),
        (
            'root_rounds = 5\ninteraction = "none"',
            "interaction",
            "all rounds train the root (root_rounds = 5)",
        ),
        ("root_rounds = 5\nrho = 0.0\ntau = 0.3", "rho, tau", "all rounds train the root (root_rounds = 5)"),
        ("rounds = 1\nlate = 1", "late", "rounds = 1"),
        (
            'aggregation = "rolora"\nlate = 1',
            "late",
            'aggregation = "rolora" trains other factors in the next round (late = 2 reaches the one after it)',
        ),
        ("staleness = 1.0", "staleness", "late = 0"),
        ('clustering = "single"\nclusters = 3\nrecluster = "drift"', "clusters, recluster", 'clustering = "single"'),
        ('clusters = 3\nchoose = "eigengap"', "choose", "clusters = 3"),
        ('aggregation = "fedit"\ncarry = false', "carry", 'aggregation = "fedit"'),
    ],
)
def test_keys_that_nothing_heeds_are_told(text: str, keys: str, cause: str) -> None:
    federation = config.parse(f'name = "stickers"\nbundle = "bundle"\n{text}', folder=Path())
    assert config.without_effect(federation) == [f"{keys}: without effect, as {cause}"]


@pytest.mark.parametrize(
    "text",
    [
        'filter = "trim"\nliars = 0.1',
        "rho = 0.0",
        "rounds = 2\nroot_rounds = 1\nrho = 0.3",
        'aggregation = "rolora"\nlate = 2',
        "clusters = 1",
        'clustering = "single"',
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
