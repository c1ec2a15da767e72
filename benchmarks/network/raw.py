"""paho-mqtt and nothing else, for comparison: python -m benchmarks.network.raw SETTINGS

"publish": clients that publish their bytes in chunks, QoS 1, when a line comes on standard input.
"subscribe": clients that count bytes, and report when all have come.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

_DEADLINE = 300.0


def connected(given: dict[str, Any], name: str) -> Client:
    ready = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTv5)
    client.on_connect = lambda *_: ready.set()
    client.connect(given["host"], given["port"])
    client.loop_start()
    if not ready.wait(_DEADLINE):
        raise TimeoutError("no connection")
    return client


def tell(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, "time": time.time(), **values}), flush=True)


def publish(given: dict[str, Any]) -> None:
    """Publish with all clients at once, each from a thread of its own."""
    chunks = [bytes(given["chunk"])] * (given["size"] // given["chunk"])
    if given["size"] % given["chunk"]:
        chunks.append(bytes(given["size"] % given["chunk"]))
    numbers = range(given["first"], given["first"] + given["count"])
    if given.get("clients") == 1:  # for all topics
        clients = dict.fromkeys(numbers, connected(given, "raw"))
    else:
        clients = {number: connected(given, f"raw-{number}") for number in numbers}
    tell("ready")

    def send(number: int) -> None:
        sent = [clients[number].publish(f"raw/{number}", chunk, qos=1) for chunk in chunks]
        for info in sent:
            info.wait_for_publish(_DEADLINE)

    for _ in sys.stdin:
        threads = [threading.Thread(target=send, args=(number,)) for number in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def subscribe(given: dict[str, Any]) -> None:
    """Count the bytes that arrive; report each time that another `total` of them have."""
    lock, subscribed = threading.Lock(), threading.Semaphore(0)
    received = 0

    def count(client: Client, _: object, message: MQTTMessage) -> None:
        nonlocal received
        with lock:
            received += len(message.payload)
            done = received == given["total"]
            if done:
                received = 0
        if done:
            tell("received")

    for number, topic in enumerate(given["topics"]):
        client = connected(given, f"raw-subscriber-{given.get('first', 0) + number}")
        client.on_message = count
        client.on_subscribe = lambda *_: subscribed.release()
        client.subscribe(topic, qos=1)
        subscribed.acquire(timeout=_DEADLINE)
    tell("ready")
    sys.stdin.read()


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    publish(settings) if settings["do"] == "publish" else subscribe(settings)
