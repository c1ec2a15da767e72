"""Assisted drawing: its pictures, its seconds and bytes, and helpers that fail."""
