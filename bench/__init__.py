"""Measurements: each module is one, prints one table and writes one JSON file to `bench/results/`.

All of them compare with a peer or a baseline on the same machine in the same run; none is a test. `python -m bench` (or
`make bench`) runs all, `python -m bench NAME …` some; `docs/benchmarks.md` keeps the last results.
"""
