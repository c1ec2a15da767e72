"""The protocol without any I/O: topics, messages, transfers."""
