"""The session cookie of a web app says who somebody is; the app's own table says what they may do.

Browsers send cookies for any page that asks, so name the pages that may connect:

    LIVESYNC_HOOKS=examples/cookie_session.py LIVESYNC_CORS_ORIGINS=https://app.example livesync serve
"""

import sqlite3
from http.cookies import SimpleCookie

SESSIONS = "file:sessions.db?mode=ro"
"""The database of the web app, opened for reading: sessions(id, user, expires), members(user, store, role)."""


def authenticate(payload, context):
    """Who it is: the user of a session that has not expired, None for anybody else."""
    cookie = SimpleCookie(context.headers.get("cookie", "")).get("session")
    if cookie is None:
        return None
    found = _ask("SELECT user FROM sessions WHERE id = ? AND expires > unixepoch()", cookie.value)
    return found[0] if found else None


def authorize(principal, store_id, action):
    """What they may do. Asked again for every push, so who is thrown out cannot go on writing."""
    found = _ask("SELECT role FROM members WHERE user = ? AND store = ?", principal.id, store_id)
    if found is None:
        raise PermissionError("You are not a member of this notebook.")
    return action == "pull" or found[0] == "editor"


def _ask(query, *values):
    # Hooks run in threads, several at a time: a connection for each question is simple, and fast enough.
    database = sqlite3.connect(SESSIONS, uri=True)
    try:
        return database.execute(query, values).fetchone()
    finally:
        database.close()
