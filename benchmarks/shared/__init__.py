"""Arguments, the machine, bars, results, kept runs and the stickers base model, which all benchmarks share."""
