"""Of several operators one leads; when it is killed the next one takes over, and nothing is made twice."""

import signal

from objects import children, cluster

from on_cluster import until


def holder(kubectl):
    found = kubectl("get", "lease/trireme-operator", "--ignore-not-found", "--output=jsonpath={.spec.holderIdentity}")
    return found.strip()


def uids(kubectl):
    return {item["metadata"]["uid"] for item in children(kubectl)}


def test_a_killed_leader_is_followed(kubectl, operators):
    one = operators("--identity=one")
    until(lambda: holder(kubectl) == "one")
    operators("--identity=two")
    kubectl.apply(cluster(name="before"))
    until(lambda: len(children(kubectl)) == 7)
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
