"""Commands that `trireme connect` runs, and the signals that are for them."""

import os
import signal
import subprocess
import sys

import pytest

from trireme.cli.connect import _to_its_end
from trireme.errors import TriremeError

# Stands for `trireme connect`: says when the command runs, and ends with its code.
PARENT = "import os, sys; from trireme.cli.connect import _to_its_end; sys.exit(_to_its_end(sys.argv[1:], os.environ))"
SLOW = "trap 'sleep 0.6; echo cleaned; exit 7' INT TERM HUP; echo ready; while :; do sleep 0.1; done"


def test_exit_codes_are_a_shells():
    assert _to_its_end(["sh", "-c", "exit 3"], os.environ) == 3
    assert _to_its_end(["sh", "-c", "kill -TERM $$"], os.environ) == 128 + signal.SIGTERM
    with pytest.raises(TriremeError, match="no-such-thing: No such file") as error:
        _to_its_end(["no-such-thing"], os.environ)
    assert error.value.code == 127


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_ends_by_itself_however_long_it_takes(number):
    words = [sys.executable, "-c", PARENT, "sh", "-c", SLOW]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "cleaned\n"
        assert process.wait(20) == 7


def test_a_signal_that_nothing_is_done_about_is_the_exit_code():
    words = [sys.executable, "-c", PARENT, "sh", "-c", "echo ready; exec sleep 60"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
