"""Which process of a training this is, and who starts the others."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import Popen

from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.utilities import rank_zero_only

from asrgan.errors import UserError

_END_S = 30  # for the others to end after this process's training


@dataclass(frozen=True)
class Launch:
    """The processes of a training.

    Attributes:
        devices: processes on each machine.
        num_nodes: machines.
        rank: this process's number among all; 0 writes the results.
        has_started: whether all of them exist: a launcher, or another process, has started them.
    """

    devices: int
    num_nodes: int
    rank: int
    has_started: bool

    @contextmanager
    def started(self) -> Generator[Mapping[int, Popen[bytes]]]:
        """Starts the other processes of this machine, with this one's command, where they lack.

        Yields:
            Those that it has started, by rank.
        """
        if self.has_started:
            yield {}
            return
        environment = os.environ
        own = {
            "MASTER_ADDR": environment.get("MASTER_ADDR", "127.0.0.1"),
            "MASTER_PORT": environment.get("MASTER_PORT") or str(_free_port()),
            "NODE_RANK": str(self.rank // self.devices),
            "WORLD_SIZE": str(self.devices * self.num_nodes),
        }
        children: dict[int, Popen[bytes]] = {}
        for local in range(1, self.devices):
            rank = self.rank + local
            numbers = {"LOCAL_RANK": str(local), "RANK": str(rank)}
            children[rank] = Popen(_own_command(), env={**environment, **own, **numbers})
        own |= {"LOCAL_RANK": "0", "RANK": str(self.rank)}
        earlier = {name: environment.pop(name) for name in own if name in environment}
        environment.update(own)
        try:
            yield children
        finally:
            for name in own:
                environment.pop(name, None)
            environment.update(earlier)
            for child in children.values():
                _end(child)


def find_launch(*, devices: int, num_nodes: int, launcher: str) -> Launch:
    """The processes that torchrun or srun has started; else those that this one is to start.

    Args:
        devices: processes on each machine; 1 under a launcher: as many as it has started.
        num_nodes: machines; 1 under a launcher: as many as it uses.
        launcher: ``srun``: this must be it; ``auto``: any, or none.

    Raises:
        UserError: a launcher has started other processes than those that are asked for, or the
            other machines cannot be found.
    """
    environment = os.environ
    if launcher == "srun" and "SLURM_PROCID" not in environment:
        raise UserError(
            "`trainer.launcher` (=srun) needs a task of SLURM: start it as docs/slurm.sh does, or"
            " try trainer=ddp."
        )
    translate_srun(environment)
    rank, world_size = int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1"))
    if "RANK" in environment and "LOCAL_WORLD_SIZE" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        if (devices, num_nodes) not in ((1, 1), (local, world_size // local)):
            raise UserError(
                f"`devices` (={devices}) and `num_nodes` (={num_nodes}) must be what the launcher"
                f" has started: devices={local} num_nodes={world_size // local}; or leave them out."
            )
        launch = Launch(local, world_size // local, rank, has_started=True)
    elif "RANK" in environment or devices * num_nodes == 1:
        launch = Launch(devices, num_nodes, rank, has_started=True)
    else:
        if num_nodes > 1 and not {"NODE_RANK", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
            raise UserError(
                f"`num_nodes` (={num_nodes}): each machine has to be told NODE_RANK, MASTER_ADDR"
                " and MASTER_PORT in its environment; torchrun and srun do that."
            )
        first = int(environment.get("NODE_RANK", "0")) * devices
        launch = Launch(devices, num_nodes, first, has_started=False)
    rank_zero_only.rank = launch.rank  # pyright: ignore[reportFunctionMemberAccess]
    return launch


def is_started_by_srun(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several tasks of a step of SLURM."""
    return int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def translate_srun(environment: MutableMapping[str, str]) -> None:
    """Puts what srun says of a process into torchrun's variables, the field's convention."""
    if not is_started_by_srun(environment) or "RANK" in environment:
        return
    num_tasks, num_nodes = (
        int(environment[f"SLURM_STEP_NUM_{name}"]) for name in ("TASKS", "NODES")
    )
    nodes = environment["SLURM_STEP_NODELIST"]
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["WORLD_SIZE"] = str(num_tasks)
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment["LOCAL_WORLD_SIZE"] = str(num_tasks // num_nodes)
    environment["NODE_RANK"] = environment["SLURM_NODEID"]
    environment.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(nodes))
    # Above the ports of the system, and another one for each job on a shared machine.
    environment.setdefault("MASTER_PORT", str(15000 + int(environment["SLURM_JOB_ID"]) % 10000))


def _own_command() -> list[str]:
    import __main__

    module = __main__.__spec__  # None: a script
    program = [sys.argv[0]] if module is None else ["-m", module.name.removesuffix(".__main__")]
    return [sys.executable, *program, *sys.argv[1:]]


def _end(child: Popen[bytes]) -> None:
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
