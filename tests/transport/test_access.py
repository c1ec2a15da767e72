"""The access rules that docs/protocol.md recommends, in a real Mosquitto."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from edge_sdk.transport import connect
from edge_sdk.wire.topics import Topics
from tests.transport.brokers import Mosquitto
from tests.transport.inbox import Inbox

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")


def test_a_device_can_use_its_own_topics_and_no_others(tmp_path: Path) -> None:
    rules = re.search(r"```\n(pattern .*?)```", PAGE, flags=re.DOTALL)
    assert rules
    (tmp_path / "acl").write_text(rules[1], "utf-8")
    passwords = tmp_path / "passwords"
    passwords.touch()
    for user in ("pi-4", "pi-5", "coordinator"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, "x"], check=True, capture_output=True)
    lines = ("allow_anonymous false", f"password_file {passwords}", f"acl_file {tmp_path / 'acl'}")
    topics = Topics("stickers")
    up, down, state = Inbox(), Inbox(), Inbox()
    with Mosquitto(tmp_path, *lines) as broker:
        coordinator = connect(broker.url, client_id="c", username="coordinator", password="x")
        coordinator.subscribe(topics.all_up, up)
        device = connect(broker.url, client_id="d", username="pi-4", password="x")
        device.subscribe(topics.all_down("pi-4"), down)
        device.subscribe(topics.coordinator_state, state)
        coordinator.publish(topics.coordinator_state, b"1", retain=True)
        coordinator.publish(topics.control("pi-4", "down"), b"2")
        for forbidden in (topics.control("pi-5", "up"), topics.coordinator_state, topics.control("pi-4", "down")):
            device.publish(forbidden, b"forged")
        device.publish(topics.control("pi-4", "up"), b"3")
        assert up.wait_for(1) == [(topics.control("pi-4", "up"), b"3")]
        assert down.wait_for(1) == [(topics.control("pi-4", "down"), b"2")]
        assert state.wait_for(1) == [(topics.coordinator_state, b"1")]
        # Mosquitto lets anybody ask, and delivers nothing.
        others = Inbox()
        device.subscribe(topics.all_down("pi-5"), others)
        coordinator.publish(topics.control("pi-5", "down"), b"not for pi-4")
        coordinator.publish(topics.control("pi-4", "down"), b"4")
        down.wait_for(2)
        assert others.messages == []
        coordinator.close()
        device.close()
