"""The command `livesync` and its siblings, one file each.

Owns what is printed for a person and the exit code. Never holds a rule of the server: it loads a configuration, calls
`app`, and tells what came of it.
"""
