"""Who may do what, how much, and from where; and what strangers can do to the server."""
