"""How long a cluster that does not answer is waited for."""

import time
from types import TracebackType

from trireme.client.kube import ConnectionLost

_SECONDS = 600.0


class Patience:
    """Bears with a cluster that does not answer, for ten minutes on end: `with patience:` around what asks it.

    Afterwards `error` is what was borne with; None if the cluster answered.
    """

    def __init__(self) -> None:
        self.error: ConnectionLost | None = None
        self._since = 0.0

    def __enter__(self) -> None:
        """Begin to ask."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, ConnectionLost):
            self.error = None
            return False
        if self.error is None:
            self._since = time.monotonic()
        self.error = error
        return time.monotonic() - self._since <= _SECONDS
