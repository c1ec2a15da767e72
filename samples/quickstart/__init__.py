"""The README's ten lines, run on this machine."""
