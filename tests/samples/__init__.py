"""Tests of the samples: the stickers data, its base model and judge, the demo."""
