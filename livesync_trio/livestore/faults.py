"""What can go wrong with a store in a Python program, as exceptions that say what to do."""


class StoreError(Exception):
    """Any of the errors below."""


class BadSchema(StoreError):
    """Tables, events or materializers cannot be used as they are declared."""


class BadQuery(StoreError):
    """The SQL of a query is not one statement that only reads."""


class BadEvent(StoreError):
    """What was to be committed is no declared event, or its arguments are not of the declared types."""


class StoreInUse(StoreError):
    """Another store has the file open, in this process or in another."""


class WrongFile(StoreError):
    """The file is not a store, holds another store, or was written by a newer version."""


class StoreClosed(StoreError):
    """The store was closed."""


class EventFailed(StoreError):
    """An event could not be applied to the tables; nothing of what was being done has happened.

    Attributes:
        event: name of the event.
        arguments: its arguments, as JSON text.
        seq_num: the number that it has, or was about to get.
        statement: the SQL that failed; None when it was the materializer itself, or the arguments.
    """

    def __init__(
        self, event: str, arguments: str, seq_num: int, statement: str | None, why: BaseException | str
    ) -> None:
        place = "its materializer" if statement is None else f"the statement {statement!r}"
        super().__init__(f"event {seq_num} ({event}) cannot be applied: {place}: {why}")
        self.event, self.arguments, self.seq_num, self.statement = event, arguments, seq_num, statement


class UnknownEvent(StoreError):
    """An event that no materializer was declared for came in, and the store was told to fail then."""


class LogReplaced(StoreError):
    """The server's log is not the one that this store has followed: it was reset, restored, or is another store's."""


class StoreStopped(StoreError):
    """The store has stopped syncing and takes no more commits; its file is as it was before the failure.

    Attributes:
        cause: why. Also `__cause__`.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"the store has stopped: {cause}")
        self.cause = self.__cause__ = cause
