"""A namespace for each test that asks for one."""

import re
import signal

import pytest

from on_cluster import namespace


def pytest_configure():
    """Take Ctrl-C and hang-ups as in a terminal: who runs the tests in the background may have had them ignored.

    What is ignored is ignored by all programs that the tests start, too, and no handler of theirs is ever asked.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture
def kubectl(request):
    """Lend kubectl in a namespace of the test's own, gone after it."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    with namespace(name) as kubectl:
        yield kubectl
