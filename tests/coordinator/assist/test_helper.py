"""A helper over the embedded broker: what it draws, what it refuses and by which name, and what it never does twice."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import generate_latest

from coordinator import config
from coordinator.assist import Helper, HelperMetrics, HelperSettings, Limits, describe
from coordinator.identity import Admissions
from coordinator.store import Database
from edge_sdk.adapter import load
from edge_sdk.errors import BrokerSettingsInvalid, ConfigurationError, MessageInvalid
from edge_sdk.inference import Generator, Order, read_state
from edge_sdk.membership import identity
from edge_sdk.transport import Settings, Will
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.wire import Committed, Pull, Refused, assist
from tests.assist.federation import DEVICE, NAME, Events, Federation, Peer, learn_together, running
from tests.models import tiny_bundle

_SEEDS = itertools.count()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with EmbeddedBroker() as broker:
        yield learn_together(tmp_path_factory.mktemp("federation"), broker.url)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.load(tiny_bundle(), verify=False, threads=1)


@pytest.fixture
def peer(federation: Federation) -> Iterator[Peer]:
    peer = Peer(federation, "helper")
    yield peer
    peer.close()


def asker(federation: Federation, peer: Peer, helper: str = "helper") -> assist.Asker:
    known = identity(federation.home)
    assert known is not None
    return peer.asker(known.key, helper)


def drawing(generator: Generator, **changes: Any) -> assist.Drawing:
    course = generator.course(Order(prompt=""))
    values: dict[str, Any] = {
        "base_id": course.base_id, "variant": course.variant, "schedule": course.schedule, "scheduler": "dpm++",
        "steps": 6, "until": 3, "guidance": 3.0, "width": 32, "height": 32, "seed": next(_SEEDS), "hybrid": "merge",
        "adapters": [], "form": "blank", "prompt": [], "negative": None, "deadline": time.time() + 600,
    }  # fmt: skip
    return assist.Drawing(**{**values, **changes})


def is_drawn(message: assist.AssistMessage) -> bool:
    return isinstance(message, assist.Drawn)


def refused(peer: Peer, count: int = 1) -> Refused:
    message = peer.wait_for(lambda message: isinstance(message, Refused), count)
    assert isinstance(message, Refused)
    return message


def fetched(peer: Peer, drawn: assist.AssistMessage) -> bytes:
    """The answer's bytes, pulled and committed."""
    assert isinstance(drawn, assist.Drawn)
    peer.say(Pull(sha256=drawn.manifest.sha256, missing=b"\x01", credit=1))
    data = peer.wait_for_chunk()
    peer.say(Committed(sha256=drawn.manifest.sha256))
    return data


def test_it_draws_with_published_adapters_and_answers_a_repeated_request_from_what_is_there(
    federation: Federation, generator: Generator, peer: Peer
) -> None:
    file = federation.home / "root.safetensors"
    use = assist.AdapterUse(sha256=hashlib.sha256(file.read_bytes()).hexdigest(), weight=0.5)
    words = generator.words("a red fox")
    ids = assist.pack_tokens(words.ids[0])
    assert ids is not None
    wanted = drawing(generator, adapters=[use], form="open", prompt=[ids])
    with running(federation) as helper:
        ask = asker(federation, peer).ask(wanted)
        peer.say(ask)
        data = fetched(peer, peer.wait_for(is_drawn))
        helper.wait_for("assist_delivered")
        peer.say(ask)
        again = peer.wait_for(is_drawn, 2)
    order = Order(
        prompt="a red fox", seed=wanted.seed, steps=6, guidance=3.0, scheduler="dpm++", adapters=[(load(file), 0.5)]
    )
    state = read_state(data)
    generator.check_state(state, order)
    np.testing.assert_array_equal(state.latents, list(generator.states(order))[2].latents)
    assert isinstance(again, assist.Drawn)
    assert again == peer.wait_for(is_drawn)
    assert len(helper.named("assist_queued")) == len(helper.named("assist_drawn")) == 1
    queued = peer.wait_for(lambda message: isinstance(message, assist.Queued))
    assert isinstance(queued, assist.Queued)
    assert queued.position == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"base_id": "f" * 64}, "StateMismatch"),
        ({"variant": "int8"}, "StateMismatch"),
        ({"schedule": "other"}, "StateMismatch"),
        ({"adapters": [assist.AdapterUse(sha256="a" * 64, weight=1.0)]}, "AdapterUnknown"),
        ({"width": 64}, "RequestInvalid"),
        ({"scheduler": "heun"}, "RequestInvalid"),
        ({"hybrid": "mixed"}, "RequestInvalid"),
        ({"hybrid": "select"}, "HybridUnsupported"),
        ({"width": 33, "height": 8}, "SizeUnsupported"),
        ({"form": "open", "prompt": [b"\xff\xff"]}, "PromptError"),
        ({"form": "open", "prompt": [b"", b""]}, "PromptError"),
        ({"scheduler": "lcm", "steps": 60, "until": 50}, "RequestInvalid"),
        ({"deadline": 0.0}, "RequestExpired"),
        ({"deadline": 2.0**40}, "RequestExpired"),
    ],
)
def test_requests_that_it_cannot_carry_out(
    federation: Federation, generator: Generator, peer: Peer, changes: dict[str, Any], code: str
) -> None:
    with running(federation):
        ask = asker(federation, peer).ask(drawing(generator, **changes))
        peer.say(ask)
        said = refused(peer)
    assert (said.code, said.about) == (code, assist.request_id(ask.drawing))
    assert said.reason


def test_forms_that_the_operator_does_not_allow(federation: Federation, generator: Generator, peer: Peer) -> None:
    with running(federation, HelperSettings(forms=("open",))):
        peer.say(asker(federation, peer).ask(drawing(generator)))
        assert refused(peer).code == "RequestInvalid"


def test_requests_that_are_not_the_devices_own(federation: Federation, generator: Generator, peer: Peer) -> None:
    stranger = Peer(federation, "helper", "stranger")
    with running(federation) as helper:
        good = asker(federation, peer).ask(drawing(generator))
        other = asker(federation, peer, "another").ask(drawing(generator))
        forged = msgspec.structs.replace(good, drawing=assist.encode(drawing(generator)))
        for number, ask in enumerate((other, forged), 1):
            peer.say(ask)
            assert refused(peer, number).code == "SignatureInvalid"
        peer.say(asker(federation, peer, "another").cancel(assist.request_id(good.drawing)))
        assert refused(peer, 3).code == "SignatureInvalid"
        stranger.say(good)
        assert refused(stranger).code == "UnknownDevice"
        for number, nonsense in enumerate(
            (b"\xc1", assist.encode(assist.Busy(request="a" * 64, seconds=1, reason=""))), 4
        ):
            peer.say(nonsense)
            assert refused(peer, number).code == "MessageInvalid"
        bad = asker(federation, peer).ask(drawing(generator))
        content = msgspec.msgpack.encode({**msgspec.msgpack.decode(bad.drawing), "until": 6})
        key = identity(federation.home)
        assert key is not None
        peer.say(_signed(key.key, peer.states[-1].key, content))
        assert refused(peer, 6).code == "MessageInvalid"
        peer.say(good)  # it still works
        peer.wait_for(is_drawn)
        assert helper.named("assist_ended") == []
    stranger.close()


def test_a_request_that_is_replayed_after_a_restart_is_not_drawn_again(
    federation: Federation, generator: Generator, peer: Peer
) -> None:
    """Its deadline is still ahead, and the helper has forgotten what it answered."""
    with running(federation):
        replayed = asker(federation, peer).ask(drawing(generator))
        peer.say(replayed)
        peer.wait_for(is_drawn)
    with running(federation) as helper:
        peer.say(replayed)
        assert refused(peer).code == "SignatureInvalid"
        assert "if the helper was started again" in refused(peer).reason
        peer.say(asker(federation, peer).ask(assist.decode_drawing(replayed.drawing)))  # the device itself may ask
        peer.wait_for(is_drawn, 2)
        assert len(helper.named("assist_queued")) == 1


def _signed(key: bytes, helper_key: bytes, content: bytes) -> assist.Ask:
    """An Ask of any content, signed by the device."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    said = msgspec.msgpack.encode(["impasto/1 ask", NAME, "helper", helper_key, DEVICE, content])
    return assist.Ask(drawing=content, signature=Ed25519PrivateKey.from_private_bytes(key).sign(said))


def test_a_device_that_is_shut_out(federation: Federation, generator: Generator, peer: Peer) -> None:
    loaded = federation.loaded
    database = Database(loaded.database, loaded.name, generator.base_id)
    admissions = Admissions(database.engine, by_invitation=False)
    try:
        admissions.revoke(DEVICE)
        with running(federation):
            peer.say(asker(federation, peer).ask(drawing(generator)))
            assert refused(peer).code == "Revoked"
    finally:
        admissions.invite(DEVICE, time.time() + 3600)
        database.close()


def test_a_full_queue_quotas_and_cancellation(federation: Federation, generator: Generator, peer: Peer) -> None:
    """The first request is drawn for as long as nobody takes it back: it has a thousand steps."""
    with running(federation, HelperSettings(limits=Limits(queue=1, per_device=3, a_minute=5))) as helper:
        long = asker(federation, peer).ask(drawing(generator, steps=1000, until=999))
        waiting, over = (asker(federation, peer).ask(drawing(generator)) for _ in range(2))
        peer.say(long)
        peer.wait_for(lambda message: isinstance(message, assist.Queued))
        peer.say(waiting)
        queued = peer.wait_for(lambda message: isinstance(message, assist.Queued), 2)
        assert isinstance(queued, assist.Queued)
        assert queued.position == 1
        peer.say(over)
        busy = peer.wait_for(lambda message: isinstance(message, assist.Busy))
        assert isinstance(busy, assist.Busy)
        assert busy.request == assist.request_id(over.drawing)
        peer.say(asker(federation, peer).cancel(assist.request_id(long.drawing)))
        drawn = peer.wait_for(is_drawn)
        assert isinstance(drawn, assist.Drawn)
        assert drawn.request == assist.request_id(waiting.drawing)
        peer.say(long)
        assert refused(peer).code == "RequestExpired"
        assert [event["code"] for event in helper.named("assist_ended")] == ["Cancelled"]


def test_a_request_joins_those_of_its_kind_that_are_drawn(
    federation: Federation, generator: Generator, peer: Peer
) -> None:
    """It is answered while the first one goes on, which has a thousand steps; one of another kind waits for that."""
    with running(federation, HelperSettings(limits=Limits(per_device=3))) as helper:
        ask = asker(federation, peer).ask
        long = ask(drawing(generator, steps=1000, until=999))
        peer.say(long)
        peer.wait_for(lambda message: isinstance(message, assist.Queued))
        wanted = drawing(generator, steps=1000, until=3, guidance=2.0, scheduler="ddim")
        apart = ask(drawing(generator, steps=6, until=3))
        peer.say(ask(wanted))
        data = fetched(peer, peer.wait_for(is_drawn))
        assert helper.named("assist_ended") == []
        peer.say(apart)
        peer.say(asker(federation, peer).cancel(assist.request_id(long.drawing)))
        last = peer.wait_for(is_drawn, 2)
        assert isinstance(last, assist.Drawn)
        assert last.request == assist.request_id(apart.drawing)
        assert [event["code"] for event in helper.named("assist_ended")] == ["Cancelled"]
    order = Order(prompt="", seed=wanted.seed, steps=1000, guidance=2.0, scheduler="ddim")
    state = list(itertools.islice(generator.states(order), 3))[-1]
    assert np.abs(read_state(data).latents - state.latents).max() <= 1e-4


def test_an_error_of_one_request_leaves_those_that_are_drawn_with_it_alone(
    federation: Federation, generator: Generator, peer: Peer
) -> None:
    with running(federation):
        ask = asker(federation, peer).ask
        long = ask(drawing(generator, steps=1000, until=999))
        peer.say(long)
        peer.wait_for(lambda message: isinstance(message, assist.Queued))
        peer.say(ask(drawing(generator, steps=1000, until=3, form="open", prompt=[b"\xff\xff"])))
        assert refused(peer).code == "PromptError"
        good = drawing(generator, steps=1000, until=3)
        peer.say(ask(good))
        drawn = peer.wait_for(is_drawn)
        assert isinstance(drawn, assist.Drawn)
        assert drawn.request == assist.request_id(assist.encode(good))
        peer.say(asker(federation, peer).cancel(assist.request_id(long.drawing)))


def test_a_device_may_not_take_the_whole_queue(federation: Federation, generator: Generator, peer: Peer) -> None:
    with running(federation, HelperSettings(limits=Limits(per_device=1))):
        long = asker(federation, peer).ask(drawing(generator, steps=1000, until=999))
        peer.say(long)
        peer.say(asker(federation, peer).ask(drawing(generator)))
        assert refused(peer).code == "QuotaExceeded"
        peer.say(asker(federation, peer).cancel(assist.request_id(long.drawing)))


def test_a_deadline_that_passes_while_it_draws(federation: Federation, generator: Generator, peer: Peer) -> None:
    with running(federation) as helper:
        peer.say(asker(federation, peer).ask(drawing(generator, steps=1000, until=999, deadline=time.time() + 1.0)))
        assert refused(peer).code == "RequestExpired"
        assert helper.wait_for("assist_ended")["code"] == "RequestExpired"


def test_its_end_is_told_to_those_who_wait(federation: Federation, generator: Generator, peer: Peer) -> None:
    with running(federation) as helper:
        peer.say(asker(federation, peer).ask(drawing(generator, steps=1000, until=999)))
        peer.wait_for(lambda message: isinstance(message, assist.Queued))
    said = refused(peer)
    assert said.code == helper.named("assist_ended")[0]["code"] == "HelperStopped"
    assert helper.told[-1]["event"] == "helper_stopped"


def test_metrics_and_words_of_events(federation: Federation, generator: Generator, peer: Peer) -> None:
    metrics = HelperMetrics()
    with running(federation) as helper:
        peer.say(asker(federation, peer).ask(drawing(generator)))
        fetched(peer, peer.wait_for(is_drawn))
        peer.say(asker(federation, peer).ask(drawing(generator, variant="int8")))
        refused(peer)
        helper.wait_for("assist_delivered")
    for event in helper.told:
        metrics.observe(event)
        assert isinstance(describe(event), str)
    text = generate_latest(metrics.registry).decode()
    for result in ("queued", "drawn", "delivered", "StateMismatch"):
        assert f'impasto_assist_requests_total{{result="{result}"}} 1.0' in text
    assert "impasto_assist_waiting 0.0" in text


# --- before it runs -------------------------------------------------------------------------------------------------


def loaded_generator() -> Generator:
    return Generator.load(tiny_bundle(), verify=False, threads=1)


def test_a_federation_that_was_not_served_yet(federation: Federation, tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text(federation.file.read_text().replace(f'name = "{NAME}"', 'name = "other"'))
    with pytest.raises(ConfigurationError, match="has not been served yet"):
        Helper(config.load(file), loaded_generator())


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (HelperSettings(name="two words"), MessageInvalid),
        (HelperSettings(adapters="/nowhere"), ConfigurationError),
    ],
)
def test_settings_that_make_no_sense(federation: Federation, settings: HelperSettings, error: type[Exception]) -> None:
    with pytest.raises(error):
        Helper(federation.loaded, loaded_generator(), settings)


def test_a_will_is_its_own(federation: Federation) -> None:
    connection = Settings(url=federation.broker, will=Will("x", b""))
    with pytest.raises(BrokerSettingsInvalid, match="will of its own"):
        Helper(federation.loaded, loaded_generator(), connection=connection)


def test_it_can_be_closed_without_having_run(federation: Federation) -> None:
    Helper(federation.loaded, loaded_generator(), on_event=Events()).close()
