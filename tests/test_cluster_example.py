"""The files that train on clusters."""

import argparse
import json
import re
import runpy
import subprocess
import sys

import pytest
import yaml

from tests.support.reference_vectors import REPOSITORY
from tf_dcnv2.training import TrainOptions
from tf_dcnv2.training.strategies import require_workers
from tf_dcnv2_cli import train

CLUSTER = REPOSITORY / "examples" / "cluster"
SCRIPT = runpy.run_path(str(CLUSTER / "tf_config.py"))


def test_slurm_gives_one_process_on_each_node_a_port_of_the_job():
    text = SCRIPT["from_slurm"]({"SLURM_JOB_ID": "4210007", "SLURM_PROCID": "1"}, ["gpu07", "gpu12"])
    require_workers(text)
    assert json.loads(text) == {
        "cluster": {"worker": ["gpu07:20007", "gpu12:20007"]},
        "task": {"type": "worker", "index": 1},
    }


def test_the_nodes_come_from_scontrol(tmp_path):
    command = [sys.executable, CLUSTER / "tf_config.py", "slurm"]
    environment = {"SLURM_JOB_ID": "3", "SLURM_PROCID": "0"}
    result = subprocess.run(command, input="a1\na2\n", env=environment, text=True, capture_output=True, check=True)
    assert json.loads(result.stdout)["cluster"]["worker"] == ["a1:20003", "a2:20003"]


def test_a_process_that_is_none_of_the_nodes_is_refused():
    with pytest.raises(SystemExit, match="process 2 is none of 2 processes: a:20003, b:20003"):
        SCRIPT["from_slurm"]({"SLURM_JOB_ID": "3", "SLURM_PROCID": "2"}, ["a", "b"])


def test_kubernetes_names_pods_by_the_service_and_the_size_of_the_job():
    service, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    environment = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    text = SCRIPT["from_kubernetes"]({**environment, "JOB_COMPLETION_INDEX": "3"})
    require_workers(text)
    workers = json.loads(text)["cluster"]["worker"]
    assert workers[3] == f"{job['metadata']['name']}-3.{service['metadata']['name']}:2222"
    assert len(workers) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}


@pytest.mark.parametrize("name", ["train.sbatch", "kubernetes.yaml"])
def test_the_command_is_one_that_the_command_line_takes(name):
    text = (CLUSTER / name).read_text().replace("\\\n", " ")
    (command,) = re.findall(r"tf-dcnv2 train (--.*)", text)
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    given = vars(parser.parse_args(command.rstrip(" &").split()))
    assert TrainOptions(**given).strategy == "multiworker"


@pytest.mark.parametrize("name", ["train.sbatch"])
def test_the_shell_takes_the_script(name):
    subprocess.run(["bash", "-n", CLUSTER / name], check=True)
