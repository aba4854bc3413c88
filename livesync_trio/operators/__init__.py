"""Who may get in to the control plane: operators, their sessions, tokens for programs (docs/console.md).

Kept as records of the database, so that several servers share them. Knows no web framework. Imported only where the
console is switched on, but for `roles`, by which the control plane decides about everybody.
"""
