"""The same contract for every transport, over the in-process broker, iotcore and Mosquitto."""

from __future__ import annotations

import threading

import pytest

from edge_sdk.errors import BrokerUnreachable, PayloadTooLarge, TransportError
from edge_sdk.transport import Will, connect
from edge_sdk.wire.messages import MAX_CHUNK
from tests.transport.conftest import Connect
from tests.transport.inbox import DEADLINE, Inbox


def test_messages_arrive_in_order_with_their_bytes(client: Connect, root: str) -> None:
    inbox = Inbox()
    client().subscribe(f"{root}/#", inbox)
    sender = client()
    payloads = [bytes([i % 256]) * (i % 7) + bytes([0, 255]) for i in range(300)]
    for payload in payloads:
        sender.publish(f"{root}/a", payload)
    assert inbox.wait_for(300) == [(f"{root}/a", payload) for payload in payloads]


def test_the_largest_chunk_and_many_of_them(client: Connect, root: str) -> None:
    inbox = Inbox()
    client().subscribe(f"{root}/+", inbox)
    sender = client()
    chunks = [bytes([i]) * MAX_CHUNK for i in range(64)]
    for chunk in chunks:
        sender.publish(f"{root}/chunk", chunk)
    assert [payload for _, payload in inbox.wait_for(64)] == chunks


def test_wildcards(client: Connect, root: str) -> None:
    one, deep = Inbox(), Inbox()
    receiver = client()
    receiver.subscribe(f"{root}/dev/+/up/+", one)
    receiver.subscribe(f"{root}/other/#", deep)
    sender = client()
    for topic in ("dev/a/up/x", "dev/a/down/x", "dev/up/x", "dev/b/up/y", "other", "other/1/2", "elsewhere"):
        sender.publish(f"{root}/{topic}", b"")
    sender.publish(f"{root}/dev/end/up/z", b"")
    sender.publish(f"{root}/other/end", b"")
    seen = one.wait(lambda messages: bool(messages) and "end" in messages[-1][0])
    assert [topic for topic, _ in seen] == [f"{root}/dev/{x}" for x in ("a/up/x", "b/up/y", "end/up/z")]
    seen = deep.wait(lambda messages: bool(messages) and "end" in messages[-1][0])
    assert [topic for topic, _ in seen] == [f"{root}/other{x}" for x in ("", "/1/2", "/end")]


def test_retained_messages_wait_for_subscribers_and_can_be_cleared(client: Connect, root: str) -> None:
    sender = client()
    sender.publish(f"{root}/state", b"old", retain=True)
    sender.publish(f"{root}/state", b"new", retain=True)
    sender.publish(f"{root}/gone", b"x", retain=True)
    sender.publish(f"{root}/gone", b"", retain=True)
    sender.publish(f"{root}/passing", b"x")
    sender.flush(DEADLINE)
    inbox = Inbox()
    receiver = client()
    receiver.subscribe(f"{root}/+", inbox)
    sender.publish(f"{root}/end", b"")
    seen = inbox.wait(lambda messages: (f"{root}/end", b"") in messages)
    assert set(seen) == {(f"{root}/state", b"new"), (f"{root}/end", b"")}


def test_a_will_is_published_when_a_client_vanishes_and_is_retained(client: Connect, root: str) -> None:
    inbox, late = Inbox(), Inbox()
    watcher = client()
    watcher.subscribe(f"{root}/+", inbox)
    client(will=Will(f"{root}/state", b"dead")).abort()
    assert inbox.wait_for(1) == [(f"{root}/state", b"dead")]
    client().subscribe(f"{root}/state", late)
    assert late.wait_for(1) == [(f"{root}/state", b"dead")]


def test_there_is_no_will_after_a_goodbye(client: Connect, root: str) -> None:
    inbox = Inbox()
    watcher = client()
    watcher.subscribe(f"{root}/+", inbox)
    client(will=Will(f"{root}/state", b"dead")).close()
    watcher.publish(f"{root}/end", b"")
    assert inbox.wait_for(1) == [(f"{root}/end", b"")]


def test_close_sends_what_is_under_way(client: Connect, root: str) -> None:
    inbox = Inbox()
    client().subscribe(f"{root}/+", inbox)
    sender = client()
    for i in range(50):
        sender.publish(f"{root}/a", bytes([i]))
    sender.close()
    sender.close()
    assert len(inbox.wait_for(50)) == 50


def test_handlers_may_publish_and_subscribe(client: Connect, root: str) -> None:
    """A ping-pong of more messages than fit into the window."""
    inbox, extra = Inbox(), Inbox()
    a, b = client(window=2), client(window=2)

    def pong(topic: str, payload: bytes) -> None:
        if payload == b"0":
            b.subscribe(f"{root}/extra", extra)
        for _ in range(4):
            b.publish(f"{root}/pong", payload)

    b.subscribe(f"{root}/ping", pong)
    a.subscribe(f"{root}/pong", inbox)
    for i in range(30):
        a.publish(f"{root}/ping", str(i).encode())
    assert len(inbox.wait_for(120)) == 120
    a.publish(f"{root}/extra", b"x")
    extra.wait_for(1)


def test_a_failing_handler_does_not_stop_the_next_message(
    client: Connect, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()

    def fragile(topic: str, payload: bytes) -> None:
        if payload == b"bad":
            raise RuntimeError("on purpose")
        inbox(topic, payload)

    client().subscribe(f"{root}/+", fragile)
    sender = client()
    sender.publish(f"{root}/a", b"bad")
    sender.publish(f"{root}/a", b"good")
    assert inbox.wait_for(1) == [(f"{root}/a", b"good")]
    assert "on purpose" in caplog.text


def test_many_threads_publish_on_one_transport(client: Connect, root: str) -> None:
    inbox = Inbox()
    client().subscribe(f"{root}/+", inbox)
    sender = client(window=3)

    def publish(name: str) -> None:
        for i in range(40):
            sender.publish(f"{root}/{name}", bytes([i]))

    threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    messages = inbox.wait_for(160)
    for name in "abcd":
        assert [payload for topic, payload in messages if topic == f"{root}/{name}"] == [bytes([i]) for i in range(40)]


def test_a_second_client_of_the_same_id_takes_over(client: Connect, root: str) -> None:
    inbox = Inbox()
    watcher = client()
    watcher.subscribe(f"{root}/+", inbox)
    first = client(client_id=f"{root}-twin", reconnect_delay=(60, 60))
    first.publish(f"{root}/a", b"1")
    inbox.wait_for(1)
    second = client(client_id=f"{root}-twin", reconnect_delay=(60, 60))
    second.publish(f"{root}/a", b"2")
    assert inbox.wait_for(2) == [(f"{root}/a", b"1"), (f"{root}/a", b"2")]


def test_what_is_too_large_is_refused_and_the_rest_goes_on(client: Connect, root: str) -> None:
    inbox = Inbox()
    sender = client()
    sender.subscribe(f"{root}/+", inbox)
    with pytest.raises(PayloadTooLarge, match="larger than"):
        sender.publish(f"{root}/a", bytes(sender.max_payload + 1))
    sender.publish(f"{root}/a", b"small")
    assert inbox.wait_for(1) == [(f"{root}/a", b"small")]


def test_what_is_too_large_is_refused_on_arrival_too(
    client: Connect, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker lets it through: the sender's own limit is larger than the receiver's."""
    inbox = Inbox()
    receiver, sender = client(max_payload=1000), client()
    receiver.subscribe(f"{root}/+", inbox)
    sender.publish(f"{root}/a", bytes(1001))
    sender.publish(f"{root}/a", bytes(1001))
    sender.publish(f"{root}/a", bytes(1000))
    assert inbox.wait_for(1) == [(f"{root}/a", bytes(1000))]
    told = [record.getMessage() for record in caplog.records if "PayloadTooLarge" in record.getMessage()]
    assert len(told) == 1, "once a minute"
    assert "1001 bytes" in told[0]


def test_a_closed_transport_says_so(client: Connect, root: str) -> None:
    transport = client()
    transport.close()
    with pytest.raises(TransportError, match="closed"):
        transport.publish(f"{root}/a", b"")
    with pytest.raises(TransportError, match="closed"):
        transport.subscribe(f"{root}/a", Inbox())


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b"])
def test_topics_and_filters_are_checked(client: Connect, topic: str) -> None:
    transport = client()
    with pytest.raises(ValueError, match="topic"):
        transport.publish(topic, b"")
    with pytest.raises(ValueError, match="filter"):
        transport.subscribe(topic.replace("+", "x+").replace("#", "#/a"), Inbox())


def test_an_absent_broker_is_named_within_the_deadline(url: str) -> None:
    scheme = url.partition("://")[0]
    absent = "memory://nobody" if scheme == "memory" else "mqtt://127.0.0.1:1"
    with pytest.raises(BrokerUnreachable, match=r"nobody|127\.0\.0\.1:1 within 0\.5 s"):
        connect(absent, client_id="x", deadline=0.5)
