"""Fuzzing of everything that decodes what comes from outside: `python -m tests.fuzz TARGET --seconds 600`."""
