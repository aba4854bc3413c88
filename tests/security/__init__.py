"""Who may do what, how much, and from where; and what strangers can do to the server (field.md, tests 19 to 21)."""
