"""Many runs: their plan, the runner that survives, and the record each of them leaves."""
