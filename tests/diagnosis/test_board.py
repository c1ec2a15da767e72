"""A board's own facts, read from outputs and trees of files as real boards give them, and the findings about them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_sdk import cli
from edge_sdk.diagnosis import BoardFacts, Finding, check_board
from edge_sdk.diagnosis.board import (
    Supply,
    Temperature,
    Throttling,
    board_model,
    memory_limits_work,
    parse_bits,
    read_supplies,
    read_temperatures,
    read_throttling,
)
from tests.diagnosis.systems import tree

NOWHERE = Path("/nowhere")
# Outputs of real boards, and where they were posted.
OUTPUTS = [
    # https://github.com/raspberrypi/firmware/issues/615
    ("throttled=0x50000\n", 0x50000, (), ("under-voltage", "throttled")),
    ("throttled=0x50005\n", 0x50005, ("under-voltage", "throttled"), ("under-voltage", "throttled")),
    # https://github.com/duckietown/Software/issues/358
    ("throttled=0x0\n", 0, (), ()),
    # https://github.com/imrahil/OctoPrint-NavbarTemp/issues/75
    ("throttled=0x20002\n", 0x20002, ("processor frequency capped",), ("processor frequency capped",)),
    # /sys/devices/platform/soc/soc:firmware/get_throttled: https://github.com/custom-components/sensor.rpi_power/issues/6
    ("80000\n", 0x80000, (), ("soft temperature limit",)),
    ("80008\n", 0x80008, ("soft temperature limit",), ("soft temperature limit",)),
]


def vcgencmd(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program of that name on the path."""
    folder.mkdir()
    program = folder / "vcgencmd"
    program.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(("text", "bits", "now", "since_start"), OUTPUTS)
def test_the_bits_of_real_boards(text: str, bits: int, now: tuple[str, ...], since_start: tuple[str, ...]) -> None:
    assert parse_bits(text) == bits
    found = Throttling(bits)
    assert (found.now, found.since_start) == (now, since_start)
    assert found.under_voltage == ("under-voltage" in since_start)


@pytest.mark.parametrize("text", ["", "throttled=", "VCHI initialization failed", "throttled=0x5000500050005", "0x"])
def test_other_text_has_no_bits(text: str) -> None:
    assert parse_bits(text) is None


def test_the_firmware_is_asked_by_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vcgencmd(tmp_path / "bin", monkeypatch, '[ "$1" = get_throttled ] && echo throttled=0x50005')
    assert read_throttling(NOWHERE) == Throttling(0x50005)


def test_the_kernel_is_asked_where_the_program_is_missing_or_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = tmp_path / "get_throttled"
    kernel.write_text("80008\n", "utf-8")
    assert read_throttling(kernel) == Throttling(0x80008)
    vcgencmd(tmp_path / "bin", monkeypatch, 'echo "Can\'t open device file: /dev/vcio" >&2; exit 1')
    assert read_throttling(kernel) == Throttling(0x80008)
    refused = read_throttling(NOWHERE)
    assert refused == Throttling(None, "vcgencmd said: Can't open device file: /dev/vcio")
    (finding,) = check_board(BoardFacts(throttling=refused))
    assert finding.status == "warning"
    assert "Can't open device file" in finding.what
    assert "video" in finding.next


def test_no_such_firmware_no_finding() -> None:
    assert read_throttling(NOWHERE) is None
    assert list(check_board(BoardFacts())) == []


def only(facts: BoardFacts) -> Finding:
    (finding,) = check_board(facts)
    if finding.status == "warning":
        assert finding.why
        assert finding.next
    return finding


def test_a_weak_power_supply_and_heat_are_told_apart() -> None:
    weak = only(BoardFacts(throttling=Throttling(0x50000)))
    assert weak.status == "warning"
    assert "power supply is too weak (0x50000; now: nothing; since it was switched on: under-voltage" in weak.what
    hot = only(BoardFacts(throttling=Throttling(0x80008)))
    assert hot.status == "warning"
    assert "slowed down" in hot.what
    assert "power" not in hot.what
    assert only(BoardFacts(throttling=Throttling(0))).status == "ok"


def test_temperatures_with_their_limits(tmp_path: Path) -> None:
    folder = tree(
        tmp_path,
        {
            "thermal_zone0/type": "cpu-thermal",
            "thermal_zone0/temp": "85250",
            "thermal_zone0/trip_point_0_type": "critical",
            "thermal_zone0/trip_point_0_temp": "110000",
            "thermal_zone0/trip_point_1_type": "passive",
            "thermal_zone0/trip_point_1_temp": "85000",
            "thermal_zone1/type": "gpu-thermal",
            "thermal_zone1/temp": "41000",
            "thermal_zone2/type": "off",
            "thermal_zone2/temp": "-256000",
            "thermal_zone3/type": "silent",
        },
    )
    found = read_temperatures(folder)
    assert found == [Temperature("cpu-thermal", 85.25, 85.0), Temperature("gpu-thermal", 41.0)]
    assert only(BoardFacts(temperatures=found)).status == "warning"
    assert "slowed down from 85 °C on" in only(BoardFacts(temperatures=found)).what
    assert only(BoardFacts(temperatures=found[1:])).status == "ok"
    assert read_temperatures(NOWHERE) == []


def test_batteries_and_other_supplies(tmp_path: Path) -> None:
    folder = tree(
        tmp_path,
        {
            "BAT0/type": "Battery",
            "BAT0/capacity": "37",
            "BAT0/status": "Discharging",
            "AC/type": "Mains",
            "AC/online": "0",
            "mouse/type": "Battery",
            "mouse/scope": "Device",
            "mouse/capacity": "5",
            "slot/type": "Battery",
            "slot/present": "0",
            "odd/type": "UPS",
            "odd/capacity": "nonsense",
        },
    )
    mains, battery, odd = read_supplies(folder)
    assert mains == Supply("AC", "Mains", online=False)
    assert battery == Supply("BAT0", "Battery", 37, "Discharging")
    assert odd == Supply("odd", "UPS")
    drains = only(BoardFacts(supplies=[mains, battery]))
    assert drains.status == "warning"
    assert "37 %, discharging" in drains.what
    assert only(BoardFacts(supplies=[odd])).what == "Battery odd: charge unknown, state unknown"
    assert read_supplies(NOWHERE) == []


@pytest.mark.parametrize(
    ("files", "works"),
    [
        ({"cgroup.controllers": "cpuset cpu io memory pids"}, True),
        ({"cgroup.controllers": "cpuset cpu io pids"}, False),  # Raspberry Pi OS as it comes
        ({"memory/memory.limit_in_bytes": "9223372036854771712", "unified/cgroup.controllers": ""}, True),
        ({"cpu/cpu.shares": "1024", "unified/cgroup.controllers": ""}, False),
        ({}, None),
    ],
)
def test_limits_of_memory_need_the_controller(tmp_path: Path, files: dict[str, str], works: bool | None) -> None:
    assert memory_limits_work(tree(tmp_path, files)) is works


def test_how_to_switch_the_controller_on() -> None:
    pi = only(BoardFacts(model="Raspberry Pi 5 Model B Rev 1.0", memory_limits=False))
    assert "/boot/firmware/cmdline.txt" in pi.next
    other = only(BoardFacts(model="NVIDIA Jetson Orin Nano Developer Kit", memory_limits=False))
    assert "cgroup_enable=memory" in other.next
    assert "cmdline.txt" not in other.next
    assert only(BoardFacts(memory_limits=True)).status == "ok"


def test_the_name_of_the_device_tree(tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert board_model(file) == "Raspberry Pi 5 Model B Rev 1.0"
    file.write_bytes(b"\0")
    assert board_model(file) is None
    assert board_model(NOWHERE) is None


def test_doctor_shows_it_and_still_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    vcgencmd(tmp_path / "bin", monkeypatch, "echo throttled=0x50005")
    shown = CliRunner().invoke(cli.app, ["doctor", "--threads", "1"])
    assert shown.exit_code == 0, shown.output
    assert "power supply is too weak (0x50005; now: under-voltage, throttled" in shown.output
    assert "Next: Use the power supply made for this board" in shown.output
    found = json.loads(CliRunner().invoke(cli.app, ["doctor", "--threads", "1", "--json"]).output)["board"]
    assert found["throttled"]["bits"] == "0x50005"
    assert found["throttled"]["now"] == ["under-voltage", "throttled"]
    assert {"model", "temperatures", "power", "memory_limits"} < set(found)
    assert found["findings"][0]["status"] == "warning"
