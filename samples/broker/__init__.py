"""A broker for a federation beyond one machine: Mosquitto's configuration, and certificates for all."""
