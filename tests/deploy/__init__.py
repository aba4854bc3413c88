"""The ways to run it, each really run as far as this machine can: see docs/deployment.md."""
