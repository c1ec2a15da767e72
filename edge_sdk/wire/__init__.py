"""The protocol without any I/O: topics, messages, transfers. docs/protocol.md describes it for other languages."""
