"""Row J14: every change of a job in a bucket goes wrong in turn, in every way, while somebody reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from buckets import Proxy

import weevit
from weevit.jobs.places import place_of
from weevit.jobs.results import job_status, verify_job
from weevit.store import bucket

TOP = "s3://weevit-test"


class Sweep:
    """A job, and what must come of it.

    Args:
        proxy: before the server.
        predictor, images: of the job.
        shard_size: of the job.
    """

    def __init__(self, proxy: Proxy, predictor: weevit.Predictor, images: Path, shard_size: int) -> None:
        self.proxy, self.predictor, self.images, self.shard_size = proxy, predictor, images, shard_size
        proxy.begin()
        self.run("whole")
        self.mutations = list(proxy.seen)
        self.rows = weevit.read_results(f"{TOP}/whole").to_pylist()
        self.shards = self.contents("whole")
        self.read = 0
        self.failed: dict[str, int] = {}

    def run(self, name: str) -> None:
        """Run the job, or resume it."""
        weevit.run_job(self.predictor, self.images, f"{TOP}/{name}", "classify", shard_size=self.shard_size)

    def contents(self, name: str) -> dict[str, bytes]:
        """The shards and failures."""
        place = place_of(f"{TOP}/{name}")
        names = [*(f"data/{own}" for own in place.names("data")), "failures.csv", "plan.jsonl", "job.json"]
        return {own: place.read(own, 1 << 30) for own in names if place.size(own) is not None}

    def once(self, fault: str, at: range) -> int:
        """One job with faults at some mutations; returns how many runs it took.

        Raises:
            AssertionError: something was lost or doubled, or a reader saw what was never whole.
        """
        name = f"{fault}-{at.start}-{at.stop}"
        self.proxy.begin(fault, at)
        with self._reader(name):
            runs = 1
            while not self._runs(name):
                runs += 1
                assert runs < 4, f"{name}: it never ends"
        self.failed[fault] = len(set(at) & set(range(len(self.proxy.seen))))
        self.proxy.begin()
        assert weevit.read_results(f"{TOP}/{name}").to_pylist() == self.rows, name
        assert self.contents(name) == self.shards, name
        assert list(verify_job(f"{TOP}/{name}")) == [], name
        status = job_status(f"{TOP}/{name}")
        assert (status.done, status.running) == (status.total, []), name
        return runs

    def _runs(self, name: str) -> bool:
        """Run it; whether it came to its end. An error must be ours, and keep what is done."""
        try:
            self.run(name)
        except weevit.OutputError as error:
            said = error
        else:
            return True
        assert "top-secret" not in str(said)
        assert "to resume" in said.hint
        self.proxy.begin()  # the store is well again
        return False

    @contextmanager
    def _reader(self, name: str) -> Iterator[None]:
        """Somebody who reads all the time: what is there is whole, and true."""
        over, wrong = threading.Event(), list[BaseException]()
        known = {row["input"]: row for row in self.rows}

        def read() -> None:
            while not over.is_set():
                try:
                    for row in weevit.read_results(f"{TOP}/{name}", partial=True).to_pylist():
                        assert row == known[row["input"]]
                    self.read += 1
                except weevit.JobError as error:  # not there yet; nothing that is there may be wrong
                    if not any(words in str(error) for words in ("holds no job", "has no plan", "no rows yet")):
                        wrong.append(error)
                except BaseException as error:
                    wrong.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert not wrong, f"{name}: a reader saw {wrong[0]!r}"


@contextmanager
def impatient() -> Iterator[None]:
    """Requests are repeated at once."""
    with mock.patch.object(bucket, "WAITS", (0.01, 0.05)):
        yield
