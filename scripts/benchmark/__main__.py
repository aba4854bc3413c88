"""`python -m scripts.benchmark` is `scripts/bench`."""

from scripts.benchmark.cli import main

main(prog_name="scripts/bench")
