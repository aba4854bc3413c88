"""`python -m bench` is `scripts/bench`."""

from bench.cli import main

main(prog_name="scripts/bench")
