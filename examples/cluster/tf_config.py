"""Prints the TF_CONFIG of this process, for `tf-dcnv2 train --strategy multiworker`, from what Slurm or Kubernetes say.

export TF_CONFIG=$(scontrol show hostnames "$SLURM_STEP_NODELIST" | python tf_config.py slurm)
export TF_CONFIG=$(python tf_config.py kubernetes)
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence


def tf_config(hosts: Sequence[str], index: int) -> str:
    """The JSON text that TensorFlow wants.

    Args:
        hosts: `name:port` of every process, the same in each of them.
        index: of this process; number 0 is the chief.
    """
    if not 0 <= index < len(hosts):
        raise SystemExit(f"tf_config.py: process {index} is none of {len(hosts)} processes: {', '.join(hosts)}")
    return json.dumps({"cluster": {"worker": list(hosts)}, "task": {"type": "worker", "index": index}})


def from_slurm(environment: Mapping[str, str], nodes: Sequence[str]) -> str:
    """Of one process on each node, which has all of the node's GPUs.

    Args:
        environment: of a task that `srun` has started.
        nodes: of the step, as `scontrol show hostnames` lists them.
    """
    # Jobs that share a node get other ports.
    port = 20000 + int(environment["SLURM_JOB_ID"]) % 10000
    return tf_config([f"{node}:{port}" for node in nodes], int(environment["SLURM_PROCID"]))


def from_kubernetes(environment: Mapping[str, str]) -> str:
    """Of an indexed Job with a headless Service, whose names and size kubernetes.yaml puts into the environment."""
    job, service, workers = (environment[name] for name in ("JOB_NAME", "SERVICE_NAME", "WORKERS"))
    hosts = [f"{job}-{index}.{service}:2222" for index in range(int(workers))]
    return tf_config(hosts, int(environment["JOB_COMPLETION_INDEX"]))


def main() -> None:
    """Prints it."""
    if sys.argv[1:] == ["slurm"]:
        print(from_slurm(os.environ, sys.stdin.read().split()))
    elif sys.argv[1:] == ["kubernetes"]:
        print(from_kubernetes(os.environ))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
