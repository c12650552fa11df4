"""Programs a model writes: benchmarks, pass@k, and a sandbox to run their tests in."""
