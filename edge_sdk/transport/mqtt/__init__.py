"""MQTT 5 through paho-mqtt, which `transport`, `client`, `refusals` and `tolerant` load; the other modules do not."""
