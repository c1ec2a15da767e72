"""Every trouble on the way to a federation, with real brokers and real certificates, is called by its name."""

from __future__ import annotations

import datetime
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner, Result

from edge_sdk import cli
from edge_sdk.diagnosis import Finding, diagnose
from edge_sdk.diagnosis.certificates import check_validity
from edge_sdk.errors import MessageInvalid, TransportError
from edge_sdk.membership import keep_id
from edge_sdk.membership.home import Home
from edge_sdk.privacy import Guarantee
from edge_sdk.transport import Settings, Tls, create
from edge_sdk.wire.messages import Presence, Succession, encode
from edge_sdk.wire.signing import Signer, fingerprint
from edge_sdk.wire.topics import Topics
from samples.broker import certificates
from tests.transport.brokers import Mosquitto, free_port
from tests.transport.inbox import Inbox

TOPICS = Topics("stickers")
ACL = Path(certificates.__file__).with_name("acl")
SIGNER, NEXT = Signer(bytes(range(32)), "stickers"), Signer(bytes(32), "stickers")


def look(
    url: str,
    tls: Tls | None = None,
    federation: str | None = None,
    device: str | None = None,
    trust: bytes | None = None,
    known: bytes | None = None,
) -> list[Finding]:
    settings = Settings(url, tls=tls)
    return list(diagnose(settings, federation=federation, device=device, trust=trust, known=known))


def trouble(findings: list[Finding]) -> list[tuple[str, str]]:
    """The findings that are not ok, each of which gives a reason and a next step."""
    found = [finding for finding in findings if finding.status != "ok"]
    assert all(finding.why and finding.next for finding in found)
    return [(finding.section, finding.status) for finding in found]


def worst(findings: list[Finding]) -> str:
    """The one that is broken, in words."""
    (broken,) = [finding for finding in findings if finding.broken]
    assert findings[-1] == broken, "what needs it is not looked at"
    assert broken.why
    assert broken.next
    return f"{broken.section}: {broken.what}"


def state(online: bool = True, epoch: int = 3, signer: Signer = SIGNER, more: tuple[Succession, ...] = ()) -> bytes:
    return encode(signer.state(online=online, epoch=epoch, base_id="b" * 64, level="plain", successions=more))


def retain(broker: Mosquitto, topic: str, payload: bytes) -> None:
    transport = create(Settings(broker.url, client_id="coordinator"))
    transport.connect(20.0)
    transport.publish(topic, payload, retain=True)
    transport.flush(20.0)
    transport.close()


class TestTheLine:
    def test_nothing_listens(self) -> None:
        assert worst(look(f"mqtt://127.0.0.1:{free_port()}")).startswith("broker: Nothing listens on 127.0.0.1:")

    def test_no_such_machine(self) -> None:
        assert worst(look("mqtt://nowhere.invalid")) == "broker: There is no machine called 'nowhere.invalid'."

    @pytest.mark.parametrize("url", ["http://a", "mqtt://", "mqtt://a:b", "memory://x", "broker"])
    def test_a_url_that_makes_no_sense(self, url: str) -> None:
        with pytest.raises(TransportError, match="makes no sense"):
            look(url)

    @pytest.mark.parametrize(("federation", "device"), [("a/b", None), ("a", "b/c")])
    def test_a_name_that_makes_no_sense(self, federation: str, device: str | None) -> None:
        with pytest.raises(MessageInvalid, match="no valid name"):
            look("mqtt://127.0.0.1:1", federation=federation, device=device)

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (b"\x20\x02\x00\x01", "broker: The broker does not speak MQTT 5."),
            (b"\x20\x03\x00\x84\x00", "broker: The broker does not speak MQTT 5."),
            (b"\x20\x03\x00\x97\x00", "broker: The broker is overloaded or shutting down (Quota exceeded)."),
            (b"\x20\x03\x00\x8a\x00", "broker: The broker has banned this device (Banned)."),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not answer as an MQTT broker."),
            (b"", "does not answer as an MQTT broker."),
        ],
    )
    def test_other_answers(self, answer: bytes, expected: str) -> None:
        """A listener gives the same answer to every message."""
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve() -> None:
                for _ in range(2):  # the first one only looks whether anybody is there
                    with server.accept()[0] as line:
                        if line.recv(1000):
                            line.sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            found = worst(look(f"mqtt://127.0.0.1:{server.getsockname()[1]}"))
            thread.join(20)
        assert found.endswith(expected)


class TestLimits:
    @pytest.mark.parametrize(
        ("line", "status", "words"),
        [
            ("max_packet_size 20000", "warning", "Its Maximum Packet Size is 20000 bytes"),
            ("max_packet_size 4000", "broken", "Its Maximum Packet Size is 4000 bytes"),
            ("max_inflight_messages 4", "warning", "Its Receive Maximum is 4"),
            ("retain_available false", "broken", "It keeps no retained messages"),
            ("max_qos 0", "broken", "It allows QoS 0 only"),
        ],
    )
    def test_too_little(self, tmp_path: Path, line: str, status: str, words: str) -> None:
        with Mosquitto(tmp_path, line) as broker:
            findings = look(broker.url)
        assert trouble(findings) == [("broker", status)]
        assert words in next(finding.what for finding in findings if finding.status == status)

    def test_a_broker_that_wants_to_know_who_it_is(self, tmp_path: Path) -> None:
        with Mosquitto(tmp_path, "allow_anonymous false") as broker:
            found = look(broker.url)
            known = look(broker.url.replace("//", "//anna:secret@"))
        assert "does not let in anybody without a user name" in worst(found)
        assert "does not let in user 'anna' with this password" in worst(known)


@pytest.fixture(scope="module")
def open_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("open")) as broker:
        yield broker


class TestTheCoordinator:
    def test_all_is_well_and_nobody_is_disturbed(self, open_broker: Mosquitto) -> None:
        """The device itself is connected, and the coordinator listens."""
        birth = encode(Presence(online=True, epoch=7))
        retain(open_broker, TOPICS.coordinator_state, state())
        heard, listener = Inbox(), create(Settings(open_broker.url, client_id="listener"))
        listener.connect(20.0)
        listener.subscribe("impasto/1/stickers/dev/#", heard)
        device = create(Settings(open_broker.url, client_id="stickers.pi-4"))
        device.connect(20.0)
        device.publish(TOPICS.presence("pi-4"), birth, retain=True)
        heard.wait_for(1)
        findings = look(open_broker.url, federation="stickers", device="pi-4", trust=SIGNER.public)
        device.publish(TOPICS.control("pi-4", "up"), b"still here")
        messages = heard.wait(lambda messages: messages[-1][1] == b"still here")
        listener.close()
        device.close()
        assert trouble(findings) == [("access", "warning")], "anybody may say anything here"
        said = " ".join(finding.what for finding in findings)
        assert f"with key {fingerprint(SIGNER.public)}; it asks for codes of level 'plain'" in said
        assert {payload for _, payload in messages[1:-1]} == {b""}
        after = Inbox()
        late = create(Settings(open_broker.url, client_id="late"))
        late.connect(20.0)
        late.subscribe(TOPICS.presence("pi-4"), after)
        assert after.wait_for(1) == [(TOPICS.presence("pi-4"), birth)], "what was retained still is"
        late.close()

    @pytest.mark.parametrize(
        ("payload", "trust", "section", "words"),
        [
            (b"", None, "coordinator", "No coordinator of 'stickers' is known"),
            (state(online=False), None, "coordinator", "is offline"),
            (b"\xc1", None, "coordinator", "is no state of a coordinator"),
            (encode(Presence(online=True, epoch=1)), None, "coordinator", "is no state of a coordinator"),
            (state(), NEXT.public, "coordinator", "not the one to trust"),
            (state()[:-64] + bytes(64), None, "coordinator", "was not signed by the key that it shows"),
        ],
    )
    def test_one_that_is_not_as_it_should_be(
        self, open_broker: Mosquitto, payload: bytes, trust: bytes | None, section: str, words: str
    ) -> None:
        retain(open_broker, TOPICS.coordinator_state, payload)
        found = worst(look(open_broker.url, federation="stickers", trust=trust))
        assert found.startswith(section)
        assert words in found

    def test_the_epsilon_that_it_asks_for(self, open_broker: Mosquitto) -> None:
        noise = Guarantee(epsilon=4.0, delta=1e-5)
        shown = SIGNER.state(online=True, epoch=3, base_id="b" * 64, level="local+dp", masked=True, noise=noise)
        retain(open_broker, TOPICS.coordinator_state, encode(shown))
        said = [finding.what for finding in look(open_broker.url, federation="stickers")]
        assert any(
            "codes of level 'local+dp' of epsilon 4, and for updates in masked sums only" in what for what in said
        )

    def test_a_key_that_was_vouched_for(self, open_broker: Mosquitto) -> None:
        retain(open_broker, TOPICS.coordinator_state, state(signer=NEXT, more=(SIGNER.succession(NEXT.public),)))
        assert trouble(look(open_broker.url, federation="stickers", trust=SIGNER.public, known=SIGNER.public)) == []

    def test_one_that_this_device_s_home_does_not_know(self, open_broker: Mosquitto) -> None:
        retain(open_broker, TOPICS.coordinator_state, state())
        found = look(open_broker.url, federation="stickers", known=NEXT.public)
        assert worst(found) == (
            f"coordinator: This device trusts another coordinator: the key known at home is {fingerprint(NEXT.public)}"
        )
        assert "join once with --trust" in found[-1].next

    def test_a_clock_that_is_behind(self, open_broker: Mosquitto) -> None:
        retain(open_broker, TOPICS.coordinator_state, state(epoch=int(time.time()) + 10**6))
        findings = look(open_broker.url, federation="stickers")
        assert trouble(findings) == [("clock", "warning")]
        assert "in the future of this clock" in findings[-1].what


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of one authority, some of which have run out, and of another one."""
    folder = tmp_path_factory.mktemp("certificates")
    certificates.make(folder, ["pi-4", "pi-5"], ["127.0.0.1"], 90)
    for name in ("broker", "pi-5"):
        for ending in ("pem", "key"):
            (folder / f"{name}.{ending}").rename(folder / f"good-{name}.{ending}")
    certificates.make(folder, ["pi-5", "expired"], ["127.0.0.1"], 0)
    for ending in ("pem", "key"):
        (folder / f"broker.{ending}").rename(folder / f"expired-broker.{ending}")
    certificates.make(folder, ["soon"], ["broker.example", "10.0.0.1"], 5)
    certificates.make(folder / "other", ["pi-4"], ["127.0.0.1"], 90)
    return folder


def secured(place: Path, folder: Path, broker: str, acl: Path = ACL) -> Mosquitto:
    """A broker with that certificate and the rules of samples/broker."""
    files = {"cafile": "ca.pem", "certfile": f"{broker}.pem", "keyfile": f"{broker}.key"}
    own = [f"{key} {folder / name}" for key, name in files.items()]
    own += ["require_certificate true", "use_identity_as_username true", "allow_anonymous false", f"acl_file {acl}"]
    return Mosquitto(place, *own, tls=True)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Mosquitto]:
    with secured(tmp_path_factory.mktemp("secured"), folder, "good-broker") as broker:
        coordinator = Tls(folder / "ca.pem", folder / "coordinator.pem", folder / "coordinator.key")
        transport = create(Settings(broker.url, client_id="c", tls=coordinator))
        transport.connect(20.0)
        transport.publish(TOPICS.coordinator_state, state(), retain=True)
        transport.flush(20.0)
        yield broker
        transport.close()


def own(folder: Path, name: str, ca: str = "ca.pem", key: str | None = None) -> Tls:
    return Tls(folder / ca, folder / f"{name}.pem", folder / f"{key or name}.key")


class TestCertificates:
    def test_all_is_well(self, broker: Mosquitto, folder: Path) -> None:
        findings = look(broker.url, own(folder, "pi-4"), "stickers", "pi-4")
        assert trouble(findings) == []
        said = " ".join(finding.what for finding in findings)
        for words in (
            "'pi-4') holds for 89 more days",
            "broker's certificate holds for 89",
            "may use the topics",
            "online",
        ):
            assert words in said

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"ca": "other/ca.pem"}, "was not signed by the authority in --ca"),
            ({"name": "other/pi-4"}, "The broker does not accept this device's certificate"),
            ({"name": "expired"}, "This device's certificate ('expired') ran out on"),
            ({"key": "coordinator"}, "coordinator.key is not the key of"),
            ({"name": "nothing"}, "nothing.pem cannot be used as a certificate"),
        ],
    )
    def test_what_is_wrong_with_files(
        self, broker: Mosquitto, folder: Path, changes: dict[str, str], expected: str
    ) -> None:
        findings = look(broker.url, own(folder, **{"name": "pi-4", **changes}))  # type: ignore[arg-type]
        broken = [finding.what for finding in findings if finding.broken]
        assert expected in broken[0]

    @pytest.mark.parametrize("ca", ["nothing.pem", "pi-4.key"])
    def test_an_authority_that_cannot_be_read_is_told_once(self, broker: Mosquitto, folder: Path, ca: str) -> None:
        findings = look(broker.url, own(folder, "pi-4", ca))
        assert trouble(findings) == [("certificate", "broken")]
        assert f"{ca} cannot be used as a certificate of the broker's authority" in findings[0].what
        assert "answers" in findings[-1].what

    def test_no_certificate_where_one_is_asked_for(self, broker: Mosquitto, folder: Path) -> None:
        assert (
            worst(look(broker.url, Tls(folder / "ca.pem"))) == "broker: The broker asks this device for a certificate."
        )

    def test_the_systems_authorities_do_not_know_it(self, broker: Mosquitto) -> None:
        assert "was not signed by any authority that this system knows" in worst(look(broker.url))

    def test_one_that_runs_out_soon(self, broker: Mosquitto, folder: Path) -> None:
        findings = look(broker.url, own(folder, "soon"))
        assert trouble(findings) == [("certificate", "warning")]
        assert "holds for 4 more days" in findings[0].what

    def test_in_the_name_of_another(self, broker: Mosquitto, folder: Path) -> None:
        findings = look(broker.url, own(folder, "pi-4"), "stickers", "pi-5")
        assert trouble(findings) == [("certificate", "warning")] + 3 * [("access", "broken")]
        assert findings[0].what.startswith("This device's")
        denied = [finding.what for finding in findings if finding.broken]
        assert TOPICS.presence("pi-5") in denied[0]
        assert TOPICS.control("pi-5", "up") in denied[1]
        assert TOPICS.chunks("pi-5", "up") in denied[2]

    def test_rules_that_let_messages_through_and_no_chunks(self, tmp_path: Path, folder: Path) -> None:
        rules = tmp_path / "acl"
        rules.write_text(ACL.read_text("utf-8").replace("/up/+", "/up/control"), "utf-8")
        with secured(tmp_path, folder, "good-broker", acl=rules) as broker:
            findings = look(broker.url, own(folder, "pi-4"), "stickers", "pi-4")
        (denied,) = [finding.what for finding in findings if finding.section == "access" and finding.broken]
        assert TOPICS.chunks("pi-4", "up") in denied

    @pytest.mark.parametrize(
        ("name", "section", "words"),
        [
            ("expired-broker", "certificate", "The broker's certificate ran out on"),
            ("broker", "certificate", "is not for '127.0.0.1': it names broker.example, 10.0.0.1"),
        ],
    )
    def test_a_broker_with_the_wrong_one(
        self, tmp_path: Path, folder: Path, name: str, section: str, words: str
    ) -> None:
        with secured(tmp_path, folder, name) as wrong:
            found = worst(look(wrong.url, own(folder, "pi-4")))
        assert found.startswith(section)
        assert words in found

    def test_a_clock_before_the_certificate(self, folder: Path) -> None:
        certificate = x509.load_pem_x509_certificate((folder / "pi-4.pem").read_bytes())
        early = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
        (finding,) = check_validity(certificate, "It", early)
        assert (finding.section, finding.status) == ("clock", "broken")
        assert "This clock says 2020-01-01 00:00 UTC" in finding.what

    def test_encrypted_and_plain_mixed_up(self, broker: Mosquitto, open_broker: Mosquitto, folder: Path) -> None:
        assert "does not speak TLS" in worst(look(open_broker.url.replace("mqtt:", "mqtts:"), Tls(folder / "ca.pem")))
        assert "does not answer as an MQTT broker" in worst(look(broker.url.replace("mqtts:", "mqtt:")))


class TestTheCommand:
    def doctor(self, *arguments: object) -> Result:
        return CliRunner().invoke(cli.app, ["doctor", *map(str, arguments)], env={"COLUMNS": "120"})

    def test_well_and_broken(self, broker: Mosquitto, folder: Path) -> None:
        files = ["--ca", folder / "ca.pem", "--certificate", folder / "pi-4.pem", "--key", folder / "pi-4.key"]
        good = self.doctor("--broker", broker.url, "-f", "stickers", "--device-id", "pi-4", *files)
        assert good.exit_code == 0, good.output
        assert "It is online" in good.output
        assert "GFLOP" not in good.output
        bad = self.doctor("--broker", broker.url, "-f", "paintings", "--device-id", "pi-4", *files)
        assert bad.exit_code == 1
        assert "broken coordinator No coordinator of 'paintings'" in bad.output
        assert "Next: Check the federation's name" in bad.output

    def test_with_the_home_of_a_device_that_takes_part(self, broker: Mosquitto, folder: Path, tmp_path: Path) -> None:
        """Its name and the key that it trusts come from there; the device that holds the home is not disturbed."""
        files = ["--ca", folder / "ca.pem", "--certificate", folder / "pi-4.pem", "--key", folder / "pi-4.key"]
        keep_id(tmp_path, "pi-4")
        look = ["--broker", broker.url, "-f", "stickers", "--home", tmp_path, *files]
        assert "may use the topics of 'pi-4'" in self.doctor(*look).output
        assert {path.name for path in tmp_path.iterdir()} == {"device_id"}, "looking leaves nothing behind"
        with closing(Home(tmp_path).journal()) as journal:
            journal.trust(SIGNER.public)
            good = self.doctor(*look)
            assert good.exit_code == 0, good.output
            assert "Its key is the one that this device trusts" in good.output
            journal.trust(NEXT.public)
            bad = self.doctor(*look)
        assert bad.exit_code == 1
        assert "This device trusts another coordinator" in bad.output

    def test_for_programs(self, open_broker: Mosquitto, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("secret\n")
        port = free_port()
        refused = self.doctor("--broker", f"mqtt://127.0.0.1:{port}", "--json", "--username", "a", "--password-file",
                              tmp_path / "password")  # fmt: skip
        assert refused.exit_code == 1
        (finding,) = json.loads(refused.output)["way"]
        assert set(finding) == {"section", "status", "what", "why", "next"}
        assert finding["what"] == f"Nothing listens on 127.0.0.1:{port}."
        assert {finding["status"] for finding in json.loads(
            self.doctor("--broker", open_broker.url, "--json").output
        )["way"]} == {"ok"}  # fmt: skip

    def test_what_makes_no_sense(self, tmp_path: Path) -> None:
        assert self.doctor("-f", "stickers").exit_code == 2
        no_file = self.doctor("--broker", "mqtt://127.0.0.1:1", "--password-file", tmp_path / "none")
        assert "Cannot read --password-file" in str(no_file.exception)
        assert "no fingerprint" in str(self.doctor("--broker", "mqtt://127.0.0.1:1", "--trust", "x").exception)
