"""A Dask LocalCluster in a process of its own: workers, threads and bytes of each, and a folder."""

import signal
import sys
import threading
from pathlib import Path

from distributed import LocalCluster


def main(workers: int, threads: int, memory: int, folder: Path) -> None:
    """Run the cluster until TERM; its address is in the folder once the scheduler answers."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=0,
        threads_per_worker=threads,
        memory_limit=memory,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        local_directory=str(folder),
    ) as cluster:
        # The driver starts beside the workers, as in a cluster: its work waits for them.
        written = folder / "address.new"
        written.write_text(cluster.scheduler_address)
        written.rename(folder / "address")
        cluster.scale(workers)
        over.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
