"""Of several operators one leads; when it is killed the next one takes over, and nothing is made twice."""

import signal

from objects import children, cluster

from on_cluster import run, until

PORT = 20801
"""Below those that the kernel deals out."""


def holder(kubectl):
    found = kubectl("get", "lease/trireme-operator", "--ignore-not-found", "--output=jsonpath={.spec.holderIdentity}")
    return found.strip()


def uids(kubectl):
    return {item["metadata"]["uid"] for item in children(kubectl)}


def test_a_killed_leader_is_followed(kubectl, operators):
    one = operators("--identity=one")
    until(lambda: holder(kubectl) == "one")
    operators("--identity=two", f"--port={PORT}")
    kubectl.apply(cluster(name="before"))
    until(lambda: len(children(kubectl)) == 7)
    # The time until it follows is not that of its start.
    answers = ("curl", "--silent", "--fail", "--noproxy", "*", f"http://127.0.0.1:{PORT}/readyz")
    until(lambda: run(*answers, check=False).returncode == 0)
    made = uids(kubectl)
    one.send_signal(signal.SIGKILL)
    kubectl.apply(cluster(name="after"))
    until(lambda: holder(kubectl) == "two", seconds=30)
    until(lambda: len(children(kubectl)) == 14)
    assert made <= uids(kubectl)


def test_a_leader_that_ends_gives_the_lease_up(kubectl, operators):
    one = operators("--identity=one")
    until(lambda: holder(kubectl) == "one")
    one.terminate()
    assert one.wait(30) == 0
    assert holder(kubectl) == ""
    operators("--identity=two")
    until(lambda: holder(kubectl) == "two")
