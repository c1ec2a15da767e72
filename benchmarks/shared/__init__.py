"""Arguments, the machine, control groups, bars, results, kept runs and the stickers base model, for all benchmarks."""
