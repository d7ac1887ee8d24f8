"""A namespace for each test that asks for one."""

import re
import uuid

import pytest

from on_cluster import Kubectl


@pytest.fixture
def kubectl(request):
    """Lend kubectl in a namespace of the test's own, gone after it."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    kubectl = Kubectl(f"{name}-{uuid.uuid4().hex[:6]}")
    kubectl("create", "namespace", kubectl.namespace)
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false", "--ignore-not-found")
