"""The curves of a run as TensorBoard shows them, live: `tensorboard --logdir .pointsman/runs/train`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stages.train.ppo.curves import measures
from stages.train.ppo.record import StepRecord

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

FOLDER = "tensorboard"


class Board:
    """Adds what is new since it was last shown."""

    def __init__(self, writer: EventFileWriter, start: int) -> None:
        """What an earlier attempt wrote of steps after `start` is taken back."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._writer = writer
        self._seen = {(phase, step) for phase in ("train", "validation", "verl") for step in range(start + 1)}
        self._seen.discard(("validation", start))
        writer.add_event(Event(wall_time=time.time(), step=start + 1, file_version="brain.Event:2"))
        log = SessionLog(status=SessionLog.START)
        writer.add_event(Event(wall_time=time.time(), step=start + 1, session_log=log))

    def show(self, records: Sequence[StepRecord], logged: Mapping[int, Mapping[str, float]]) -> None:
        """Write the steps not seen before."""
        for record in records:
            self._add(record.phase, record.step, measures(record, sorted(record.shares)))
        for step, values in logged.items():
            self._add("verl", step, values)
        self._writer.flush()

    def _add(self, phase: str, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if (phase, step) in self._seen:
            return
        self._seen.add((phase, step))
        scalars = [Summary.Value(tag=f"{phase}/{name}", simple_value=value) for name, value in values.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))


@contextmanager
def board(folder: Path, start: int) -> Iterator[Board]:
    """The board of a run folder, for an attempt that goes on after step `start`."""
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder / FOLDER))
    try:
        yield Board(writer, start)
    finally:
        writer.close()
