"""LiveStore in a Python program."""
