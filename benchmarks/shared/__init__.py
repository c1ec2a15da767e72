"""Arguments, the machine, control groups, bars, results, kept runs and the stickers model, which all benchmarks share."""
