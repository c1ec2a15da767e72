"""The phases of a federation, a file each: its moves, and the answer that it waits for. `moves` has all legal moves."""
