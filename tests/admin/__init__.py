"""The control plane, asked over HTTP as operators and their pages ask it."""
