"""Succeeds while the master counts this worker as alive."""

import json
import os
import sys
import urllib.request

host = os.environ["SPARK_MASTER"].removeprefix("spark://").rpartition(":")[0]
try:
    with urllib.request.urlopen(f"http://{host}:8080/json/", timeout=4) as answer:
        workers = json.load(answer)["workers"]
except OSError as error:
    sys.exit(f"the master does not answer: {error}")
if ("ALIVE", os.environ["POD_IP"]) not in {(worker["state"], worker["host"]) for worker in workers}:
    sys.exit("not registered with the master")
