"""`java` of the image trireme/spark: what it changes in a command line."""

import subprocess
from pathlib import Path

import pytest

WRAPPER = Path(__file__).resolve().parents[3] / "images" / "spark" / "java"
ARCHIVE = [
    "-XX:+UnlockDiagnosticVMOptions",
    "-XX:ArchiveRelocationMode=0",
    "-XX:SharedArchiveFile=/opt/spark/cds/spark.jsa",
]
OWN = "/opt/spark/cds/spark.jar"
REST = "/opt/spark/jars/slf4j-api-2.0.17.jar:/opt/spark/jars/*"


@pytest.mark.parametrize(
    ("given", "archive", "path"),
    [
        # Daemons, drivers and executors; Spark's launcher.
        (f"/opt/trireme/conf/:{REST}", True, f"{OWN}:/opt/trireme/conf/:{REST}"),
        ("/opt/spark/jars/*", True, f"{OWN}:/opt/spark/jars/*"),
        ("/conf/:/opt/spark/jars/*:/etc/hadoop/", True, f"{OWN}:/conf/:/opt/spark/jars/*:/etc/hadoop/"),
        # What a user wants before Spark's own stays there.
        ("/mine/a.jar:/conf/:/opt/spark/jars/*", False, None),
        ("/mine/:/mine/a.jar:/opt/spark/jars/*", False, None),
        ("/other/spark/jars/*", False, None),
        ("program.jar", False, None),
    ],
)
def test_the_archive_is_used_where_it_counts(tmp_path: Path, given: str, archive: bool, path: str | None) -> None:
    script = tmp_path / "java"
    script.write_text(WRAPPER.read_text().replace("exec /usr/bin/java", "exec printf '%s\\n'"))
    words = ["-Xmx1g", "-cp", given, "-Dname=with a blank", "org.apache.Main", "-cp-is-no-option", "*"]
    printed = subprocess.run(["sh", script, *words], check=True, capture_output=True, text=True).stdout.splitlines()
    expected = [path if path and word == given else word for word in words]
    assert printed == (ARCHIVE if archive else []) + expected
