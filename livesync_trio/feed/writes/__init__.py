"""What clients write through the feed (decision 0026). Imported only with `[feed.writes]`.

`parsing` is pure: from a message to writes that may be tried. `applying` does them in one transaction of the source,
`session` takes the messages of one client in their order, and answers.
"""
