"""From a fresh image to a joined device: the scripts of samples/, run with stand-ins for the system, and the units."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_sdk.exits import Exit

SAMPLES = Path(__file__).parents[2] / "samples"
SCRIPTS = sorted(SAMPLES.rglob("*.sh"))
UNITS = sorted((SAMPLES / "boards").glob("*.service"))
PI, JETSON = (SAMPLES / board / "setup.sh" for board in ("raspberry_pi", "jetson"))
# Programs of the system in place of which a test runs these; each notes how it was called.
NOTE = 'echo "$(basename "$0") $*" >>"$IMPASTO_ROOT/calls"\n'
STAND_INS = {
    "id": 'case "$*" in -un) echo pi ;; -u) echo 0 ;; "-u nobody-here") exit 1 ;; *) echo 1000 ;; esac\n',
    "uname": "echo ${MACHINE:-aarch64}\n",
    "df": "echo; echo / 1 1 ${FREE:-9000000} 1 /\n",
    "getent": 'echo "pi:x:1000:1000::$IMPASTO_ROOT/home/pi:/bin/sh"\n',
    "apt-get": NOTE,
    "systemctl": NOTE,
    "sync": "",
    "runuser": NOTE + 'shift 3; exec "$@"\n',
    # Owners are the system's, which a test may not give files to.
    "install": 'args=(); while [ $# -gt 0 ]; do [ "$1" = -o ] && shift 2 && continue; args+=("$1"); shift; done\n'
    'exec /usr/bin/install "${args[@]}"\n',
    "python3": NOTE + 'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$STAND_INS/tool" "$3/bin/pip"; '
    'cp "$STAND_INS/tool" "$3/bin/impasto"; chmod +x "$3"/bin/*; fi\n',
    "tool": NOTE + '[[ " $* " == *" ${FAILS:-nothing} "* ]] && exit 1 || exit 0\n',
}


class Board:
    """A fresh image in a folder."""

    def __init__(self, folder: Path, *, controllers: str = "cpuset cpu io memory pids") -> None:
        self.root = folder / "root"
        self.programs = folder / "programs"
        self.programs.mkdir(parents=True)
        for name, text in STAND_INS.items():
            program = self.programs / name
            program.write_text(f"#!/bin/bash\n{text}", "utf-8")
            program.chmod(0o755)
        for name in ("bundle", "model", "my pictures"):
            (folder / name).mkdir()
        (folder / "invitation").write_text("impasto1.abc\n", "utf-8")
        self.write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
        self.write("sys/fs/cgroup/cgroup.controllers", controllers)
        self.write("boot/firmware/cmdline.txt", "console=tty1 root=PARTUUID=4d8097e2-02 rootwait\n")
        self._folder = folder

    def write(self, name: str, text: str) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        return file

    def set_up(self, *more: str, script: Path = PI, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script with all that it needs, and forget the calls of earlier runs."""
        (self.root / "calls").unlink(missing_ok=True)
        folders = ["-b", "bundle", "-m", "model", "-p", "my pictures"]
        return self.run(
            "--broker", "mqtts://broker.example", "-f", "stickers", *folders, *more, script=script, **environment
        )

    def run(self, *arguments: str, script: Path = PI, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "STAND_INS": str(self.programs),
            "IMPASTO_ROOT": str(self.root),
            **environment,
        }
        return subprocess.run(
            ["bash", str(script), *arguments], cwd=self._folder, env=own, capture_output=True, text=True, timeout=60
        )

    @property
    def calls(self) -> list[str]:
        file = self.root / "calls"
        return file.read_text("utf-8").splitlines() if file.is_file() else []

    def files(self) -> dict[str, str]:
        """All files of the image but the notes."""
        return {
            str(file.relative_to(self.root)): file.read_text("utf-8")
            for file in sorted(self.root.rglob("*"))
            if file.is_file() and file.name != "calls"
        }


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(SAMPLES)))
def test_scripts_are_bash(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", [PI, JETSON], ids=["pi", "jetson"])
def test_help_teaches_and_a_wrong_command_line_is_named(board: Board, script: Path) -> None:
    taught = board.run("--help", script=script)
    assert taught.returncode == 0
    assert "--invitation-file FILE" in taught.stdout
    for arguments, said in [
        ([], "name the broker"),
        (["--broker", "mqtt://x", "-f", "f", "-b", "nowhere"], "-b nowhere is no folder"),
        (["--broker"], "--broker needs a value"),
        (["--nonsense", "x"], "there is no option --nonsense"),
        (["--broker", 'mqtt://"x'], "a character that systemd's settings cannot hold"),
        (["--username", "two words"], "a space"),
        (["--broker", "mqtt://x", "-f", "f", "-b", "bundle", "-m", "model"], "-p FOLDER"),
    ]:
        wrong = board.run(*arguments, script=script)
        assert wrong.returncode == 2
        assert said in wrong.stderr
    assert board.calls == []


def test_a_fresh_board_is_set_up_and_a_second_run_changes_nothing(board: Board) -> None:
    first = board.set_up("--invitation-file", "invitation", "--device-id", "pi-5")
    assert first.returncode == 0, first.stderr + first.stdout
    environment = board.files()["etc/impasto/pi.env"]
    assert 'BROKER="mqtts://broker.example"\nFEDERATION="stickers"\n' in environment
    assert '/my pictures"\n' in environment
    assert f"OPTIONS=--device-id pi-5 --invitation-file {board.root}/etc/impasto/pi.invitation\n" in environment
    assert board.files()["etc/impasto/pi.invitation"] == "impasto1.abc\n"
    assert (board.root / "etc/impasto/pi.invitation").stat().st_mode & 0o077 == 0
    unit = board.files()["etc/systemd/system/impasto-device@.service"]
    assert unit == (SAMPLES / "boards/impasto-device@.service").read_text("utf-8")
    order = [call for call in board.calls if call.split()[0] in ("pip", "impasto", "systemctl")]
    steps = ["pip install", "pip check", "impasto doctor --bundle", "impasto doctor --broker", "impasto prepare"]
    steps += ["systemctl is-enabled", "systemctl enable --quiet systemd-time-wait-sync.service"]
    steps += ["systemctl daemon-reload", "systemctl enable --quiet impasto-device@pi", "systemctl restart --no-block"]
    assert [call[: len(step)] for call, step in zip(order, steps, strict=True)] == steps
    assert "-c " + str(SAMPLES.parent / "constraints.txt") in order[0]
    assert f"env HOME={board.root}/home/pi" in "\n".join(board.calls)
    before = board.files()
    second = board.set_up("--device-id", "pi-5")  # without the invitation, which is kept
    assert second.returncode == 0, second.stderr
    assert board.files() == before
    assert "systemctl start --no-block impasto-device@pi.service" in board.calls
    assert not any("restart" in call or "-m venv" in call for call in board.calls)
    third = board.set_up("--device-id", "pi-6", "--trust", "0123abcd 4567ef01")
    assert third.returncode == 0
    assert "--device-id pi-6 --trust 0123abcd4567ef01 " in board.files()["etc/impasto/pi.env"]
    assert "systemctl restart --no-block impasto-device@pi.service" in board.calls


def test_a_dry_run_changes_nothing(board: Board) -> None:
    before = board.files()
    done = board.set_up("--dry-run", "--invitation-file", "invitation")
    assert done.returncode == 0, done.stderr
    assert board.files() == before
    assert not any(call.split()[0] in ("apt-get", "pip", "impasto", "runuser") for call in board.calls)
    for said in ("would run: ", "doctor --broker mqtts://broker.example", "would write: ", "systemctl restart"):
        assert said in done.stdout


def test_the_memory_controller_of_a_pi_is_switched_on_once(tmp_path: Path) -> None:
    board = Board(tmp_path, controllers="cpuset cpu io pids")
    line = board.files()["boot/firmware/cmdline.txt"].strip()
    first = board.set_up()
    assert first.returncode == 3
    assert "sudo reboot" in first.stdout
    files = board.files()
    assert files["boot/firmware/cmdline.txt"] == f"{line} cgroup_enable=memory\n"
    assert files["boot/firmware/cmdline.txt.before-impasto"].strip() == line
    assert "etc/impasto/pi.env" not in files
    second = board.set_up()  # without a restart, or in vain
    assert second.returncode == 1
    assert "has not: restart" in second.stderr
    assert board.files() == files
    board.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids")
    assert board.set_up().returncode == 0


def test_a_disk_that_is_full_leaves_every_file_as_it_was(tmp_path: Path) -> None:
    board = Board(tmp_path, controllers="cpuset cpu io pids")
    line = board.files()["boot/firmware/cmdline.txt"]
    (board.programs / "install").write_text('#!/bin/bash\nfor last; do :; done; echo cut >"$last"; exit 1\n', "utf-8")
    failed = board.set_up()
    assert failed.returncode == 1
    assert "cmdline.txt, see above; it is as it was" in failed.stderr
    assert board.files()["boot/firmware/cmdline.txt"] == line
    board.write("sys/fs/cgroup/cgroup.controllers", "memory")
    assert "Cannot make the folder" in board.set_up().stderr
    (board.root / "home/pi/.impasto").mkdir(parents=True)
    failed = board.set_up("--invitation-file", "invitation")
    assert failed.returncode == 1
    assert "Cannot write" in failed.stderr
    assert not any("etc/" in name or name.endswith(".new") for name in board.files())
    board.write("sys/fs/cgroup/cgroup.controllers", "cpu")
    board.write("boot/firmware/cmdline.txt", "")
    assert "is empty" in board.set_up().stderr


@pytest.mark.parametrize(
    ("environment", "more", "said"),
    [
        ({"MACHINE": "armv7l"}, (), "64-bit"),
        ({"FREE": "1000"}, (), "MB free"),
        ({}, ("--user", "nobody-here"), "no user nobody-here"),
        ({"FAILS": "install"}, (), "pip could not install Impasto"),
        ({"FAILS": "check"}, (), "does not fit together"),
        ({"FAILS": "--broker"}, (), "way to the federation is broken"),
        ({"FAILS": "--bundle"}, (), "bundle cannot be used"),
        ({"FAILS": "prepare"}, (), "could not be prepared"),
    ],
)
def test_what_is_wrong_is_named_and_no_service_is_left(
    board: Board, environment: dict[str, str], more: tuple[str, ...], said: str
) -> None:
    done = board.set_up(*more, **environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert not any("systemctl" in call for call in board.calls)


def test_a_board_of_another_kind_is_refused(board: Board) -> None:
    assert "This is no Jetson" in board.set_up(script=JETSON).stderr
    board.write("proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    assert "This is no Raspberry Pi (NVIDIA Jetson" in board.set_up().stderr


@pytest.mark.parametrize(
    ("release", "given", "wheel"),
    [
        # First lines of /etc/nv_tegra_release.
        ("# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64", True, "--no-deps"),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64", True, "--no-deps"),
        (
            "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64",
            False,
            "onnxruntime-gpu>=1.30",
        ),
    ],
)
def test_a_jetson_gets_the_wheel_of_its_cuda(
    board: Board, tmp_path: Path, release: str, given: bool, wheel: str
) -> None:
    board.write("etc/nv_tegra_release", f"{release}\n")
    file = tmp_path / "onnxruntime_gpu.whl"
    file.touch()
    more = ("--wheel", str(file)) if given else ()
    assert board.set_up(*more, script=JETSON).returncode == 0
    pips = [call for call in board.calls if call.startswith("pip ")]
    assert [call.split()[1] for call in pips] == ["install", "check", "uninstall", "install"]
    assert wheel in pips[-1]
    assert pips[-1].endswith(f"--no-deps {file}") is given
    failed = board.set_up(*more, script=JETSON, FAILS=wheel)
    assert failed.returncode == 0
    assert "draws on the processor instead" in failed.stdout
    assert any(call.endswith("constraints.txt onnxruntime") for call in board.calls)


def test_jetpack_6_without_a_wheel_draws_on_the_processor(board: Board) -> None:
    board.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic\n")
    done = board.set_up(script=JETSON)
    assert done.returncode == 0
    assert "give it with --wheel FILE" in done.stdout
    assert "draws on the processor instead" in done.stdout
    assert not any("onnxruntime-gpu" in call for call in board.calls if call.startswith("pip install"))
    assert any(call.endswith("constraints.txt onnxruntime") for call in board.calls)


def test_a_wheel_is_for_a_jetson_and_has_to_be_there(board: Board) -> None:
    refused = board.set_up("--wheel", "none.whl")
    assert refused.returncode == 2
    assert "there is no option --wheel" in refused.stderr
    board.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic\n")
    assert board.set_up("--wheel", "none.whl", script=JETSON).returncode == 2


def test_an_old_jetpack_and_a_controller_that_is_off(tmp_path: Path) -> None:
    board = Board(tmp_path, controllers="cpuset cpu io pids")
    board.write("etc/nv_tegra_release", "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref\n")
    assert "flash JetPack 6 or 7" in board.set_up(script=JETSON).stderr
    board.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic\n")
    off = board.set_up(script=JETSON)
    assert off.returncode == 1
    assert "extlinux.conf" in off.stderr


# units ------------------------------------------------------------------------------------------------------------


def verify(unit: Path, folder: Path, change: tuple[str, str] = ("", "")) -> str:
    """All that `systemd-analyze verify` has to say of a unit whose program is there."""
    assert shutil.which("systemd-analyze"), "this test needs systemd-analyze: apt-get install systemd"
    text = unit.read_text("utf-8").replace(*change)
    text, count = re.subn(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
    assert count == 1
    (folder / unit.name).write_text(text, "utf-8")
    file = folder / unit.name.replace("@", "@one")
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr + (f"code {done.returncode}" if done.returncode else "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_what_systemd_understands(unit: Path, tmp_path: Path) -> None:
    assert verify(unit, tmp_path) == ""
    assert "Failed to parse" in verify(unit, tmp_path, ("WatchdogSec=", "WatchdogSec=soon "))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_wait_for_network_and_time_and_restart_where_that_may_help(unit: Path) -> None:
    lines = unit.read_text("utf-8").splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert settings["Type"] == "notify"
    assert int(settings["WatchdogSec"].removesuffix("min")) >= 5
    for wanted in ("network-online.target", "time-sync.target"):
        assert wanted in settings["Wants"].split()
        assert wanted in settings["After"].split()
    in_vain = {Exit.UNUSABLE, Exit.USAGE, Exit.REFUSED, Exit.IN_USE}
    assert settings["RestartPreventExitStatus"].split() == [str(int(code)) for code in sorted(in_vain)]
    assert settings["Restart"] == "on-failure"
    assert settings["User"] not in ("", "root")
    if "device" in unit.name:
        assert settings["AssertControlGroupController"] == "memory"
        assert {"Nice", "MemoryMax", "MemoryHigh"} < set(settings)


def test_the_device_is_started_with_options_that_there_are() -> None:
    from typer.testing import CliRunner

    from edge_sdk import cli

    unit = (SAMPLES / "boards/impasto-device@.service").read_text("utf-8")
    script = (SAMPLES / "boards/common.sh").read_text("utf-8")
    given = set(re.findall(r"(--[a-z-]+) \$\{", unit)) | {"--invitation-file", "--ca", "--certificate", "--key"}
    given |= {"--password-file", "--trust", "--username", "--device-id"}
    taught = CliRunner().invoke(cli.app, ["join", "--help"], env={"COLUMNS": "200"}).output
    assert all(option in taught for option in given)
    assert set(re.findall(r"\$\{([A-Z_]+)\}", unit)) <= set(re.findall(r"^([A-Z_]+)=", script, flags=re.MULTILINE))
