"""Brokers of a test's own: the objects to apply to its namespace."""

import os
import subprocess
from pathlib import Path
from typing import Any

RABBITMQ = "rabbitmq"
REDIS = "redis"
USER = "trireme"
PASSWORD = "lettersAndDigits1"

Object = dict[str, Any]


ENCRYPTED = """
listeners.tcp = none
listeners.ssl.default = 5672
ssl_options.cacertfile = /secret/ca.crt
ssl_options.certfile = /secret/tls.crt
ssl_options.keyfile = /secret/tls.key
"""


def rabbitmq(namespace: str, certificates: dict[str, str] | None = None) -> list[Object]:
    """Return a Secret, a Deployment and a Service, all called `rabbitmq`; with TLS alone if there are certificates.

    The Secret is one that the Celery chart takes as `broker.existingSecret`. Queues are lost with the pod.
    """
    secret = {
        "username": USER,
        "password": PASSWORD,
        "url": f"{'amqps' if certificates else 'amqp'}://{USER}:{PASSWORD}@{RABBITMQ}.{namespace}.svc:5672//",
        "result-backend": "rpc://",
        **({**certificates, "rabbitmq.conf": ENCRYPTED} if certificates else {}),
    }
    env = [
        _from_secret("RABBITMQ_DEFAULT_USER", RABBITMQ, "username"),
        _from_secret("RABBITMQ_DEFAULT_PASS", RABBITMQ, "password"),
        # RabbitMQ sees the node's memory only, and would be killed before it slows publishers down.
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        {
            "name": "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "value": "-rabbit total_memory_available_override_value $(MEMORY)",
        },
    ]
    if certificates:
        env.append({"name": "RABBITMQ_CONFIG_FILE", "value": "/secret/rabbitmq.conf"})
    return _broker(RABBITMQ, namespace, 5672, secret, env, "/var/lib/rabbitmq")


def redis(namespace: str, certificates: dict[str, str] | None = None) -> list[Object]:
    """Return the same of Redis, called `redis`."""
    url = f"{'rediss' if certificates else 'redis'}://:{PASSWORD}@{REDIS}.{namespace}.svc:6379"
    secret = {"password": PASSWORD, "url": f"{url}/0", "result-backend": f"{url}/1", **(certificates or {})}
    env = [_from_secret("PASSWORD", REDIS, "password")]
    files = "--tls-cert-file /secret/tls.crt --tls-key-file /secret/tls.key --tls-ca-cert-file /secret/ca.crt"
    tls = f"--port 0 --tls-port 6379 --tls-auth-clients no {files}" if certificates else ""
    command = ["sh", "-c", f'echo "requirepass $PASSWORD" | exec redis-server - --dir /data --save "" {tls}']
    return _broker(REDIS, namespace, 6379, secret, env, "/data", command=command)


ELSEWHERE = {REDIS: redis, RABBITMQ: rabbitmq}


def authority(folder: Path, host: str) -> dict[str, str]:
    """Return ca.crt, tls.crt and tls.key of a server by that name, from an authority made for it alone."""

    def openssl(subject: str, name: str, *more: str) -> None:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
        # Nothing of the machine's own configuration, which may say something of these, too.
        command = ("openssl", "req", "-config", os.devnull, "-x509", "-days", "2", "-subj", subject, *key)
        subprocess.run((*command, "-out", f"{name}.crt", *more), cwd=folder, check=True, capture_output=True)

    def extensions(*values: str) -> list[str]:
        return [word for value in values for word in ("-addext", value)]

    ca = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign", "subjectKeyIdentifier=hash")
    server = ("basicConstraints=critical,CA:FALSE", "authorityKeyIdentifier=keyid", f"subjectAltName=DNS:{host}")
    openssl("/CN=authority", "ca", *extensions(*ca))
    openssl("/CN=server", "tls", "-CA", "ca.crt", "-CAkey", "ca.key", *extensions(*server))
    return {name: (folder / name).read_text() for name in ("ca.crt", "tls.crt", "tls.key")}


def _broker(
    name: str, namespace: str, port: int, secret: Object, env: list[Object], data: str, **container: Any
) -> list[Object]:
    labels = {"app.kubernetes.io/name": name}

    def of(version: str, kind: str, **body: Any) -> Object:
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        return {"apiVersion": version, "kind": kind, "metadata": metadata, **body}

    template = {"metadata": {"labels": labels}, "spec": _pod(name, port, env, data, container)}
    deployment = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels},
        "template": template,
    }
    return [
        of("v1", "Secret", stringData=secret),
        of("apps/v1", "Deployment", spec=deployment),
        of("v1", "Service", spec={"selector": labels, "ports": [{"name": "tcp-broker", "port": port}]}),
    ]


def _pod(name: str, port: int, env: list[Object], data: str, container: Object) -> Object:
    listens = {"tcpSocket": {"port": port}, "timeoutSeconds": 5}
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": name,
                "image": f"trireme/{name}:dev",
                "imagePullPolicy": "IfNotPresent",
                "env": env,
                # It listens once all else is up.
                "startupProbe": {**listens, "periodSeconds": 1, "failureThreshold": 120},
                "readinessProbe": {**listens, "periodSeconds": 10},
                "resources": {
                    "limits": {"cpu": "1", "memory": "320Mi"},
                    "requests": {"cpu": "20m", "memory": "160Mi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
                "volumeMounts": [
                    {"name": "data", "mountPath": data},
                    {"name": "secret", "mountPath": "/secret", "readOnly": True},
                ],
                **container,
            }
        ],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "secret", "secret": {"secretName": name}}],
    }


def _from_secret(variable: str, name: str, key: str) -> Object:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
