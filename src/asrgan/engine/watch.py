"""The processes of one training: they agree before it begins, and none of them is left alone."""

import os
import secrets
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.connection import Connection, Listener
from subprocess import Popen, TimeoutExpired
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import distributed

from asrgan.errors import SAVED_CODES, InterruptedRunError, LostProcessError, UserError

_GRACE_S = 20  # for the main thread to notice by itself, and to close its loggers
_END_S = 5.0  # for a process whose connection is closed to end, or for the word of one that has
_POLL_S = 1.0
_DONE = ""
_GOOD_CODES = (None, 0, *SAVED_CODES)


class Watch(Callback):
    """Ends every process of a training, with the reason, soon after one of them has ended.

    A process that waits for a dead one in a collective may wait for half an hour. So each holds a
    connection to the first one, which the system closes with the process however it ends; a thread
    listens to it. Here they also compare what they are about to do. The first one speaks for all.

    Args:
        agreement: what has to be the same everywhere, by name.
        children: processes that this one has started, by rank.

    Raises:
        UserError: from `setup`: a process is about to do something else.
    """

    def __init__(
        self, agreement: Mapping[str, object], *, children: Mapping[int, Popen[bytes]]
    ) -> None:
        self._agreement = dict(agreement)
        self._children = dict(children)
        self._connections: dict[int, Connection] = {}
        self._rank = 0
        self._lost: LostProcessError | None = None
        self._is_lost, self._has_ended = threading.Event(), threading.Event()
        if children:  # these may end before they have met
            threading.Thread(target=self._poll_children, daemon=True).start()

    @contextmanager
    def guard(self) -> Generator[None]:
        """Where the training happens.

        Raises:
            LostProcessError: another process is gone.
            SystemExit: this one ends with another one, which tells why.
        """
        try:
            yield
        except UserError as error:
            has_told = self._tell(str(error), is_interrupted=isinstance(error, InterruptedRunError))
            if self._rank != 0 and has_told:
                raise SystemExit(error.exit_code) from error
            raise
        except KeyboardInterrupt:
            self._tell("was interrupted; resume=true goes on from the last checkpoint.")
            raise
        except Exception as error:  # of a collective, maybe
            if (self._connections or self._children) and self._is_lost.wait(2 * _END_S):
                assert self._lost is not None
                if self._rank != 0:
                    raise SystemExit(self._lost.exit_code) from error
                raise self._lost from error
            self._tell(f"{type(error).__name__}: {error}")
            raise
        finally:
            self._has_ended.set()
            self._send(_DONE)
            for joined in self._connections.values():
                joined.close()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Meets the others."""
        del pl_module, stage
        if trainer.world_size > 1:
            self._rank = trainer.global_rank
            self._connect(trainer)
            threading.Thread(target=self._listen, daemon=True).start()
            everybodys: list[Any] = [None] * trainer.world_size
            distributed.all_gather_object(everybodys, self._agreement)
            _require_agreement(everybodys)

    def _connect(self, trainer: pl.Trainer) -> None:
        key, port = secrets.token_bytes(16), 0
        if self._rank == 0:
            with Listener(("", 0), backlog=trainer.world_size, authkey=key) as listener:
                port = listener.address[1]
                distributed.broadcast_object_list([key, port])
                for _ in range(trainer.world_size - 1):
                    joined = listener.accept()
                    self._connections[joined.recv()] = joined
        else:
            received: list[Any] = [key, port]
            distributed.broadcast_object_list(received)
            key, port = received
            to_first = connection.Client((os.environ["MASTER_ADDR"], port), authkey=key)
            to_first.send(self._rank)
            self._connections[0] = to_first

    # Words

    def _tell(self, message: str, *, is_interrupted: bool = False) -> bool:
        """Why this process ends; all that are interrupted know it by themselves."""
        return self._send(_DONE if is_interrupted else f"rank {self._rank}: {message}")

    def _send(self, word: str) -> bool:
        has_sent = False
        for joined in self._connections.values():
            try:
                joined.send(word)
                has_sent = True
            except OSError:
                continue  # it is gone, or closed
        return has_sent

    # Threads

    def _poll_children(self) -> None:
        while not self._has_ended.wait(_POLL_S):
            for rank, child in self._children.items():
                code = child.poll()
                if code not in _GOOD_CODES:
                    self._is_lost.wait(_END_S)  # its own word, if there is one, says more
                    self._lose(_as_loss(rank, code))
                    return

    def _listen(self) -> None:
        ranks = {joined: rank for rank, joined in self._connections.items()}
        while ranks and not self._has_ended.is_set():
            for joined in connection.wait(list(ranks), timeout=_POLL_S):
                assert isinstance(joined, Connection)
                rank = ranks.pop(joined)
                try:
                    word = joined.recv()
                except (EOFError, OSError):
                    self._lose(_as_loss(rank, self._code_of(rank)))
                    return
                if word != _DONE:
                    self._lose(word, is_known=self._rank != 0)
                    return

    def _code_of(self, rank: int) -> int | None:
        """The exit code of a process that ends; None: another one has started it."""
        with suppress(KeyError, TimeoutExpired):
            return self._children[rank].wait(_END_S)
        return None

    def _lose(self, reason: str, *, is_known: bool = False) -> None:
        """Gives the main thread a while; what is known to the first process is told by it."""
        if self._is_lost.is_set() or self._has_ended.is_set():
            return
        self._lost = LostProcessError(reason)
        self._is_lost.set()
        self._send(reason)
        if not self._has_ended.wait(2 * _POLL_S if is_known else _GRACE_S):
            if not is_known:
                sys.stderr.write(f"asrgan: {reason}\n")
                sys.stderr.flush()
            os._exit(self._lost.exit_code)


def _as_loss(rank: int, code: int | None) -> str:
    if code is None:
        how = "is gone"
    else:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"The process of rank {rank} {how}; resume=true goes on from the last checkpoint."


def _require_agreement(agreements: Sequence[Mapping[str, object]]) -> None:
    first = agreements[0]
    for rank, other in enumerate(agreements):
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise UserError(
                    f"`{name}` is {other.get(name)} for rank {rank} and {first.get(name)} for rank"
                    " 0: all processes of a run must start with the same configuration and code."
                )
