"""Every event is checked before it is stored: its name, its arguments, and who may do it.

    LIVESYNC_HOOKS=examples/event_schemas.py livesync serve

One bad event refuses its whole batch. The published 0.4 client tries a refused push again for ever, so refuse what is
wrong for good, and let the app check the same before it commits.
"""

import msgspec


class TodoCreated(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    text: str


class TodoCompleted(msgspec.Struct, forbid_unknown_fields=True):
    id: str


class TodosCleared(msgspec.Struct, forbid_unknown_fields=True):
    pass


SCHEMAS = {"v1.TodoCreated": TodoCreated, "v1.TodoCompleted": TodoCompleted, "v1.TodosCleared": TodosCleared}
TEXT_MAX_CHARACTERS = 2_000


def on_push(batch, context):
    for event in batch:
        schema = SCHEMAS.get(event.name)
        if schema is None:
            raise ValueError(f"There is no event {event.name!r}.")
        try:
            args = msgspec.convert(event.args, schema)
        except msgspec.ValidationError as error:
            raise ValueError(f"Event {event.seq_num}, {event.name}: {error}") from None
        if isinstance(args, TodoCreated) and len(args.text) > TEXT_MAX_CHARACTERS:
            raise ValueError(f"Event {event.seq_num}: a todo has at most {TEXT_MAX_CHARACTERS} characters.")
        if isinstance(args, TodosCleared) and (context.user is None or context.user.claims.get("role") != "admin"):
            raise PermissionError("Only an admin clears the list.")
