from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_sdk import adapter as adapters
from edge_sdk import cli
from edge_sdk.cli import connection
from edge_sdk.cli.adapters import parse, read
from edge_sdk.errors import NoPictures
from edge_sdk.inference import BASIS, Bundle
from edge_sdk.inference.bundle import hash_files, write_index
from edge_sdk.pictures import save_picture
from tests.models import EMBEDDING, picture_bundle, tiny_bundle, tiny_model
from tests.training.samples import write_squares

Run = Callable[..., tuple[int, str, str]]
JOIN = ["join", "--broker", "mqtt://x", "-f", "f", "-b", "BUNDLE", "-m", "MODEL", "-p", "pictures"]


@pytest.fixture
def impasto(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the console script in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["impasto", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        code = stopped.value.code
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def leaf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny model, trained by the command."""
    folder = tmp_path_factory.mktemp("leaf")
    pictures = write_squares(folder / "pictures", 4)
    arguments = ["train", pictures, "-m", tiny_model(), "-o", folder / "leaf.safetensors", "--steps", 3, "--rank", 2]
    command = [sys.executable, "-c", "import edge_sdk.cli; edge_sdk.cli.main()", *map(str, arguments), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "3 steps" in done.stdout
    assert "rank 2" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["leaf.safetensors", "pictures"]
    return folder / "leaf.safetensors"


def test_help_teaches_the_commands(impasto: Run) -> None:
    code, out, _ = impasto("--help")
    assert code == 0
    assert all(word in out for word in ("generate", "train", "join", "info", "impasto-export"))


def test_generate_is_the_same_for_the_same_seed(impasto: Run) -> None:
    for name in ("a.png", "b.png"):
        code, out, _ = impasto("generate", "a fox", "-b", tiny_bundle(), "-o", name, "--steps", 2, "--seed", 3)
        assert code == 0
        assert name in out
    assert np.array_equal(np.asarray(Image.open("a.png")), np.asarray(Image.open("b.png")))


def test_generate_mixes_adapters(impasto: Run, leaf: Path, tmp_path: Path) -> None:
    trained = adapters.load(leaf)
    adapters.save(adapters.scale(trained, 30.0), "strong.safetensors")
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy("strong.safetensors", home / "leaf.safetensors")
    options = ("-b", tiny_bundle(), "--steps", 2, "--seed", 3)
    assert impasto("generate", "a fox", *options, "-o", "plain.png")[0] == 0
    assert impasto("generate", "a fox", *options, "-o", "one.png", "-a", "strong.safetensors")[0] == 0
    assert (
        impasto(
            "generate",
            "a fox",
            *options,
            "-o",
            "two.png",
            "-a",
            "strong.safetensors:0.5",
            "-a",
            "strong.safetensors:.5",
        )[0]
        == 0
    )
    assert impasto("generate", "a fox", *options, "-o", "home.png", "-a", "leaf", "--home", home)[0] == 0
    terms = ("-a", "strong.safetensors", "-a", "strong.safetensors:0.5")
    assert impasto("generate", "a fox", *options, "-o", "turns.png", *terms, "--hybrid", "switch")[0] == 0
    plain, one, two, at_home, turns = (
        np.asarray(Image.open(f"{name}.png")).astype(int) for name in ("plain", "one", "two", "home", "turns")
    )
    assert np.abs(turns - one).max() > 1
    assert np.abs(one - plain).max() > 3
    assert np.abs(one - two).max() <= 1
    assert np.array_equal(one, at_home)


def test_generate_draws_several(impasto: Run, tmp_path: Path) -> None:
    assert impasto("generate", "a fox", "-b", tiny_bundle(), "-o", "new/fox.png", "--steps", 1, "--count", 2)[0] == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["fox-1.png", "fox-2.png"]


def test_generate_starts_from_a_picture_in_another_size(impasto: Run) -> None:
    Image.new("RGB", (60, 20), "red").save("sketch.png")
    options = ("-b", tiny_bundle(), "--steps", 4, "--seed", 3, "--memory-limit", "500MB", "--backend", "cpu")
    assert impasto("generate", "a fox", *options, "-o", "a.png", "--picture", "sketch.png", "--strength", 0.5)[0] == 0
    assert impasto("generate", "a fox", *options, "-o", "b.png", "--size", "48X24", "--tile", 32)[0] == 0
    assert np.asarray(Image.open("a.png")).shape == (16, 56, 3)
    assert np.asarray(Image.open("b.png")).shape == (24, 48, 3)


def test_generate_says_what_it_cuts(impasto: Run) -> None:
    code, _, err = impasto("generate", "very " * 60 + "small fox", "-b", tiny_bundle(), "--steps", 1)
    assert code == 0
    assert err.startswith("note: ")
    assert len(err.splitlines()) == 1


def test_drawing_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, edge_sdk.cli\n"
        f"sys.argv = ['impasto', 'generate', 'a fox', '-b', {str(tiny_bundle())!r}, '--steps', '1', '-o', 'fox.png']\n"
        "try:\n    edge_sdk.cli.main()\n"
        "except SystemExit as stopped:\n    assert not stopped.code\n"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")
    assert (tmp_path / "fox.png").is_file()


def test_a_training_whose_adapter_could_not_be_written_is_not_lost(impasto: Run, leaf: Path, tmp_path: Path) -> None:
    write_squares(tmp_path / "pictures", 4)
    arguments = (
        "train",
        "pictures",
        "-m",
        tiny_model(),
        "-o",
        "a.safetensors",
        "--steps",
        3,
        "--rank",
        2,
        "--threads",
        1,
    )
    Path("a.safetensors").symlink_to("/dev/full")
    code, _, err = impasto(*arguments)
    assert (code, err) == (6, "error: a.safetensors: No space left on device; free some room there\n")
    Path("a.safetensors").unlink()
    assert Path("a.safetensors.checkpoint").is_file()
    assert impasto(*arguments)[0] == 0
    assert Path("a.safetensors").read_bytes() == leaf.read_bytes()
    assert not Path("a.safetensors.checkpoint").exists()


def test_an_adapter_without_room_for_itself_and_its_checkpoint_is_kept_elsewhere(
    impasto: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_squares(tmp_path / "pictures", 2)
    Path("a.safetensors").symlink_to("/dev/full")
    monkeypatch.setattr("edge_sdk.training.trainer.keep_checkpoint", lambda *_: None)  # as on a full disk
    code, _, err = impasto("train", "pictures", "-m", tiny_model(), "-o", "a.safetensors", "--steps", 1, "--threads", 1)
    found = re.fullmatch(r"error: a\.safetensors: No space left .*\. What was learnt is in (.*): move it .*\n", err)
    assert code == 1
    assert found is not None, err
    assert adapters.load(found[1]).rank == 8


@pytest.mark.parametrize("out", ["place", "place/x/..", "place/", "file/a.safetensors", "/proc/a.safetensors"])
def test_where_an_adapter_cannot_go_is_said_before_the_training(impasto: Run, tmp_path: Path, out: str) -> None:
    write_squares(tmp_path / "pictures", 1)
    (tmp_path / "place" / "x").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"")
    code, said, err = impasto("train", "pictures", "-m", tiny_model(), "-o", out, "--minutes", 1000)
    assert (code, said) == (1, "")
    assert (
        "is a folder: name the file, such as --out" in err if "place" in out else "Name another place with --out" in err
    )
    assert sorted(path.name for path in tmp_path.rglob("*") if "checkpoint" in path.name) == []


def test_a_full_disk_is_said_with_the_pictures_name(impasto: Run) -> None:
    Path("fox.png").symlink_to("/dev/full")
    code, _, err = impasto("generate", "a fox", "-b", tiny_bundle(), "-o", "fox.png", "--steps", 1)
    assert (code, err) == (6, "error: fox.png: No space left on device; free some room there\n")


@pytest.mark.parametrize("name", ["fox.png", "fox.webp", "fox.JPG", "fox.tiff", "fox.bmp"])
def test_pictures_are_written_in_the_format_of_their_suffix(tmp_path: Path, name: str) -> None:
    picture = Image.new("RGB", (8, 8), "red")
    save_picture(picture, tmp_path / name)
    picture.save(tmp_path / f"plain-{name}")
    assert (tmp_path / name).read_bytes() == (tmp_path / f"plain-{name}").read_bytes()


def test_what_is_left_out_of_a_folder_is_a_note(impasto: Run, tmp_path: Path) -> None:
    write_squares(tmp_path / "pictures", 2)
    (tmp_path / "pictures" / "metadata.jsonl").unlink()
    for picture in (tmp_path / "pictures").glob("*.png"):
        picture.with_suffix(".txt").write_text("a square", "utf-8")
    (tmp_path / "pictures" / "clip.mov").write_bytes(b"\0\0\0\x14ftypqt  ")
    code, _, err = impasto("train", "pictures", "-m", tiny_model(), "--steps", 1, "--rank", 1, "--threads", 1)
    assert (code, len(err.splitlines())) == (0, 1)
    assert err.startswith("note: pictures: left out: clip.mov (")


def test_info_says_what_a_base_model_cannot_be_used_for(impasto: Run, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model(), tmp_path / "model")
    config = json.loads((model / "unet/config.json").read_text("utf-8"))
    (model / "unet/config.json").write_text(json.dumps({**config, "in_channels": 9}), "utf-8")
    assert "an inpainting, depth or editing model" in " ".join(impasto("info", model)[1].split())
    (model / "unet/config.json").write_text(json.dumps(config), "utf-8")
    (model / "scheduler/scheduler_config.json").write_text('{"_class_name": "EDMEulerScheduler"}')
    assert "trained with other noise" in " ".join(impasto("info", model)[1].split())


def test_info_on_everything(impasto: Run, leaf: Path) -> None:
    base_id = Bundle.load(tiny_bundle()).index.base_id
    for path, words in (
        (tiny_bundle(), ("bundle", "32 x 32 pixels", "LoRA slots")),
        (tiny_model(), ("base model", "impasto-export")),
        (leaf, ("adapter", "rank", "2", "layers")),
    ):
        code, out, _ = impasto("info", path)
        assert code == 0
        assert base_id in out
        assert all(word in out for word in words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "a fox", "-b", "nowhere"], "There is no bundle in nowhere"),
        (["generate", "a fox", "-b", "BUNDLE", "-a", "gone.safetensors"], "gone.safetensors"),
        (["generate", "a fox", "-b", "BUNDLE", "-a", "junk.safetensors"], "Not a safetensors file"),
        (["generate", "a fox", "-b", "BUNDLE", "--size", "30"], "multiples of 8 pixels"),
        (["generate", "a fox", "-b", "BUNDLE", "--picture", "gone.png"], "gone.png does not exist"),
        (["generate", "a fox", "-b", "BUNDLE", "--picture", "junk.safetensors"], "cannot be decoded"),
        (["generate", "a fox", "-b", "BUNDLE", "--quick"], "no preview decoder"),
        (["generate", "a fox", "-b", "BUNDLE", "--hybrid", "select"], "chooses between two adapters"),
        (["generate", "a fox", "-b", "BUNDLE", "--memory-limit", "1MB"], "memory limit is 1 MB"),
        (["train", "nowhere", "-m", "MODEL"], "nowhere is not a folder"),
        (["train", ".", "-m", "MODEL"], "holds no pictures"),
        (["train", ".", "-m", "nowhere"], "nowhere is no diffusers folder"),
        (["train", "PICTURES", "-m", "MODEL", "--memory-limit", "20MB"], "does not fit into 20 MB"),
        (["info", "nowhere"], "There is no bundle in nowhere"),
        (["info", "junk.safetensors"], "Not a safetensors file"),
        (
            ["join", "--broker", "carrier-pigeon://roof", "-f", "f", "-b", "BUNDLE", "-m", "MODEL", "-p", "pictures"],
            "carrier-pigeon",
        ),
        (JOIN, "the pictures have 1. Add pictures"),
        ([*JOIN, "--privacy", "none"], "no privacy level 'none'. Choose one of: plain, coarse"),
        ([*JOIN, "--bandwidth", "fast"], "512 KB/s"),
        ([*JOIN, "--password-file", "none"], "Cannot read --password-file"),
        ([*JOIN, "--invitation-file", "none"], "Cannot read --invitation-file"),
        ([*JOIN, "--invitation-file", "junk.safetensors"], "This is no invitation"),
        ([*JOIN, "--ca", "ca.pem"], "ca would have no effect: mqtt:// is not encrypted"),
        ([*JOIN, "--certificate", "c.pem", "--key", "c.key"], "certificate and key would have no effect"),
        ([*JOIN, "--key", "c.key"], "key would have no effect"),
        ([*JOIN, "--broker", "mqtts://x", "--key", "c.key"], "without its certificate"),
        ([*JOIN, "--password-file", "junk.safetensors"], "without a user name"),
        ([*JOIN, "--password-file", "empty"], "--password-file empty is empty"),
        ([*JOIN, "--password-file", "latin-1"], "it is no text in UTF-8"),
        ([*JOIN, "--broker", "mqtt://anna@x", "--username", "ben"], "two: a user name"),
        ([*JOIN, "--broker", "mqtt://anna:h7#Kq@x"], "write '#' as %23"),
        (["doctor", "--broker", "mqtt://x", "--ca", "ca.pem"], "ca would have no effect"),
        (["doctor", "--broker", "mqtt://x:70000"], "1 to 65535"),
        (["doctor", "--broker", "memory://x"], "makes no sense here"),
    ],
)
def test_errors_are_one_line_and_exit_code_1(impasto: Run, arguments: list[str], message: str, tmp_path: Path) -> None:
    Path("junk.safetensors").write_bytes(b"junk")
    Path("empty").write_bytes(b"\n")
    Path("latin-1").write_bytes(b"h7\xe9Kq")
    write_squares(tmp_path / "pictures", 1)
    places = {"BUNDLE": str(tiny_bundle()), "MODEL": str(tiny_model()), "PICTURES": str(tmp_path / "pictures")}
    code, out, err = impasto(*(places.get(argument, argument) for argument in arguments), *_home(arguments, tmp_path))
    assert (code, out) == (1, "")
    line = err.splitlines()[-1]
    assert line.startswith("error: ")
    assert message.lower() in line.lower()
    assert "Kq" not in err, "a piece of a password"
    assert "Traceback" not in err


def without_basis(folder: Path) -> None:
    index = Bundle.load(folder).index
    write_index(folder, msgspec.structs.replace(index, prompt_basis=None))


def damaged_basis(folder: Path) -> None:
    (folder / BASIS).write_bytes(b"damaged")


def no_basis(folder: Path) -> None:
    """A file that was exported as it is, and is no basis."""
    damaged_basis(folder)
    write_index(folder, msgspec.structs.replace(Bundle.load(folder, verify=False).index, files=hash_files(folder)))


@pytest.mark.parametrize(
    ("damage", "captions", "message"),
    [
        (None, 7, "needs at least 8 different captions"),
        (without_basis, 8, "this one has none: it was exported by an earlier version. Export it again"),
        (damaged_basis, 8, "its hash differs): export or copy the bundle again"),
        (no_basis, 8, "prompt_basis.safetensors cannot be read"),
    ],
)
def test_what_makes_no_code_ends_join_before_anything_is_kept(
    impasto: Run, tmp_path: Path, damage: Callable[[Path], None] | None, captions: int, message: str
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle(), tmp_path / "bundle"))
    if damage is not None:
        damage(bundle)
    write_squares(tmp_path / "pictures", captions)
    places = {"BUNDLE": str(bundle), "MODEL": str(tiny_model())}
    home = tmp_path / "home"
    code, out, err = impasto(*(places.get(argument, argument) for argument in JOIN), "--home", home)
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not home.exists()


def test_a_picture_code_is_shared_unless_its_owner_says_no(impasto: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def join(device: object, broker: object, **given: object) -> None:
        asked.append(given["share_picture_code"])
        raise NoPictures("none here")

    monkeypatch.setattr("edge_sdk.device.Device.join", join)
    for more in ([], ["--picture-code"], ["--no-picture-code"]):
        impasto(*JOIN, *more)
    assert asked == [True, True, False]


def test_an_owner_may_allow_masked_sums_only(impasto: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def join(device: object, broker: object, **given: object) -> None:
        asked.append(given["masked_only"])
        raise NoPictures("none here")

    monkeypatch.setattr("edge_sdk.device.Device.join", join)
    for more in ([], ["--masked-only"], ["--no-masked-only"]):
        impasto(*JOIN, *more)
    assert asked == [False, True, False]


def test_info_says_whether_a_bundle_makes_picture_codes(impasto: Run) -> None:
    assert f"{EMBEDDING} numbers" in impasto("info", picture_bundle())[1]
    assert "it has no image encoder" in impasto("info", tiny_bundle())[1]


def _home(arguments: list[str], tmp_path: Path) -> list[str]:
    return ["--home", str(tmp_path / "home")] if arguments[0] == "join" else []


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "a fox"],
        ["generate", "a fox", "-b", "BUNDLE", "--steps", "0"],
        ["generate", "a fox", "-b", "BUNDLE", "--scheduler", "heun"],
        ["generate", "a fox", "-b", "BUNDLE", "--hybrid", "blend"],
        ["generate", "a fox", "-b", "BUNDLE", "--scheduler", "lcm", "--steps", "60"],
        ["generate", "a fox", "-b", "BUNDLE", "-o", "fox"],
        ["generate", "a fox", "-b", "BUNDLE", "-o", "fox.psd"],
        ["generate", "a fox", "-b", "BUNDLE", "-a", "x.safetensors:nan"],
        ["generate", "a fox", "-b", "BUNDLE", "--size", "48x"],
        ["generate", "a fox", "-b", "BUNDLE", "--size", "large"],
        ["generate", "a fox", "-b", "BUNDLE", "--backend", "abacus"],
        ["generate", "a fox", "-b", "BUNDLE", "--memory-limit", "plenty"],
        ["generate", "a fox", "-b", "BUNDLE", "--home", "home"],
        ["generate", "a fox", "-b", "BUNDLE", "--strength", "0.5"],
        ["generate", "a fox", "-b", "BUNDLE", "--hybrid", "switch"],
        ["generate", "a fox", "-b", "BUNDLE", "--guidance", "1", "--negative", "blurred"],
        ["doctor", "--ca", "ca.pem"],
        ["doctor", "--broker", "mqtt://127.0.0.1:1", "--home", "home"],
        ["doctor", "--broker", "mqtt://127.0.0.1:1", "--device-id", "pi-4"],
        ["train", "pictures"],
        ["train", "pictures", "-m", "m", "--memory-limit", "plenty"],
        [*JOIN, "--memory-limit", "plenty"],
        [*JOIN, "--password", "seen by everybody"],
        [*JOIN, "--invitation", "seen, too"],
        ["join", "mqtt://x", "-f", "f", "-b", "BUNDLE", "-m", "m", "-p", "p"],
        ["paint"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_exit_code_2(impasto: Run, arguments: list[str]) -> None:
    code, _, err = impasto(*(str(tiny_bundle()) if argument == "BUNDLE" else argument for argument in arguments))
    assert code == 2
    assert "Usage" in err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("leaf", ("leaf", 1.0)),
        ("leaf:0.7", ("leaf", 0.7)),
        ("a:b.safetensors", ("a:b.safetensors", 1.0)),
        ("a:b.safetensors:-2", ("a:b.safetensors", -2.0)),
        (r"C:\mine.safetensors", (r"C:\mine.safetensors", 1.0)),
        (":0.5", (":0.5", 1.0)),
    ],
)
def test_adapter_arguments(argument: str, expected: tuple[str, float]) -> None:
    assert parse(argument) == expected


def test_a_password_from_the_surroundings_is_named(impasto: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPASTO_PASSWORD", "h7Kq")
    code, _, err = impasto(*JOIN)
    assert code == 1
    assert "variable IMPASTO_PASSWORD" in err
    assert "h7Kq" not in err
    monkeypatch.setenv("IMPASTO_PASSWORD", "")
    assert connection.settings("mqtt://x", None, None, None, None, None, "").credentials == (None, None)


class TestNoHome:
    """No HOME and no entry in the list of users, as in a container with a user of its own."""

    @pytest.fixture(autouse=True)
    def _nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pwd = pytest.importorskip("pwd", reason="POSIX only")

        def unknown(user: object) -> None:
            raise KeyError(user)

        for name in ("HOME", "XDG_CACHE_HOME", "IMPASTO_CACHE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(pwd, "getpwuid", unknown)

    def test_drawing_needs_none(self, impasto: Run) -> None:
        code, out, err = impasto("generate", "a fox", "-b", tiny_bundle(), "--steps", 2, "--threads", 1)
        assert code == 0, err
        assert "picture.png" in out
        assert not Path("~").exists()

    def test_a_device_without_a_folder_for_it_is_told_what_to_do(self, impasto: Run) -> None:
        code, _, err = impasto(*JOIN)
        assert code == 1
        assert "~/.impasto needs a home folder" in err
        assert "set HOME" in err

    def test_a_cache_that_was_asked_for(self, impasto: Run) -> None:
        code, _, err = impasto("prepare", tiny_bundle())
        assert code == 1
        assert "set IMPASTO_CACHE" in err

    def test_the_doctor_looks_all_the_same(self, impasto: Run) -> None:
        code, out, _ = impasto("doctor", "--threads", 1)
        assert code == 0
        assert "set IMPASTO_CACHE" in " ".join(out.split())


def test_a_home_that_cannot_be_written_is_told(impasto: Run) -> None:
    Path("file").write_text("")
    write_squares(Path("pictures"), 1)
    places = {"BUNDLE": str(tiny_bundle()), "MODEL": str(tiny_model())}
    code, _, err = impasto(*(places.get(argument, argument) for argument in JOIN), "--home", "file/home")
    assert code == 1
    assert "Cannot use file/home as a device's home" in err
    assert "--home" in err


def test_nobody_talks_over_training() -> None:
    """Libraries print useless notes when they are imported."""
    script = "import edge_sdk.training"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "Multiple distributions" not in done.stderr
    assert done.stderr == ""


def test_a_name_is_an_adapter_at_home_and_a_file_is_that_file(tmp_path: Path) -> None:
    factors = adapters.Factors(np.ones((1, 4), np.float32), np.ones((4, 1), np.float32))
    made = {name: adapters.Adapter({f"unet.{name}.to_q": factors}, base_id="b") for name in ("here", "there")}
    for file in ("cluster-0", "cluster-1"):
        adapters.save(made["there"], tmp_path / f"{file}.safetensors")
    adapters.save(made["here"], tmp_path / "mine.safetensors")
    read_in = read(["cluster-0", "cluster-1:0.5", str(tmp_path / "mine.safetensors")], tmp_path)
    assert [(*term.layers, weight) for term, weight in read_in] == [
        ("unet.there.to_q", 1.0),
        ("unet.there.to_q", 0.5),
        ("unet.here.to_q", 1.0),
    ]
