"""Tests of assisted drawing, over a real broker with a real tiny model."""
