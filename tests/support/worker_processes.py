"""Runs of the command line in processes of their own, several of which may train together."""

import json
import multiprocessing
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from tests.support.eagerly import run_eagerly

# The processes are forks of one that has loaded TensorFlow and the package, and done nothing else yet. There is one
# such server in each process that runs tests.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, "tf_dcnv2.training", "tf_dcnv2.evaluation"])


def start(
    words: Sequence[str],
    output: Path,
    *,
    environment: Mapping[str, str] | None = None,
    cpus: int = 1,
    eager: bool = True,
) -> multiprocessing.Process:
    """Starts the command `tf-dcnv2`, whose output goes to a file, with that many logical CPUs."""
    process = PROCESSES.Process(target=_run, args=(list(words), output, dict(environment or {}), cpus, eager))
    process.start()
    return process


def start_together(words: Sequence[str], outputs: Sequence[Path], **arguments) -> list[multiprocessing.Process]:
    """Starts the command in as many processes as there are outputs, which train together."""
    hosts = [f"127.0.0.1:{port}" for port in _free_ports(len(outputs))]
    processes = []
    for index, output in enumerate(outputs):
        config = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        processes.append(start(words, output, environment={"TF_CONFIG": json.dumps(config)}, **arguments))
    return processes


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _run(words: list[str], output: Path, environment: dict[str, str], cpus: int, eager: bool) -> None:
    from tf_dcnv2_cli import main

    stream = open(output, "w", buffering=1)  # noqa: SIM115 - until the process ends
    for descriptor in (1, 2):
        os.dup2(stream.fileno(), descriptor)
    sys.stdout = sys.stderr = stream
    os.environ.update(environment)
    if cpus > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * cpus)
    with run_eagerly(eager):
        sys.exit(main(words))
