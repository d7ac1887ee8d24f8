"""What can go wrong, in one line that says what to do."""


class TriremeError(Exception):
    """Something the user can mend; the message is one line, without a full stop, and names the fix.

    Args:
        message: what is wrong and what to do.
        code: the exit code of the command line.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class TooLate(TriremeError, TimeoutError):
    """What was waited for has not come in time."""
