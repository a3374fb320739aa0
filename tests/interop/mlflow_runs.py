"""Sends the runs below a folder to a real MLflow server, and reads them again with MLflow's own client.

Usage: mlflow_runs.py PROGRAM FOLDER. `undertone runs FOLDER --mlflow URL` runs twice: the second time replaces every run.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow

PORT = 5123
URL = f"http://127.0.0.1:{PORT}"


def wait(server):
    for _ in range(600):
        assert server.poll() is None, "the server has ended"
        try:
            urllib.request.urlopen(f"{URL}/health")
            return
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def check(program, folder):
    listed = json.loads(subprocess.run([program, "runs", folder, "--json"], check=True, capture_output=True).stdout)
    for _ in range(2):
        subprocess.run([program, "runs", folder, "--mlflow", URL], check=True, stdout=subprocess.DEVNULL)
    client = mlflow.MlflowClient(URL)
    compared = 0
    for study in listed:
        experiment = client.get_experiment_by_name(Path(study["folder"]).name)
        runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
        assert set(runs) == {training["place"] for training in study["trainings"]}, runs.keys()
        for training in study["trainings"]:
            run = runs[training["place"]]
            assert run.info.status == {"finished": "FINISHED", "stopped": "KILLED"}[training["state"]]
            assert run.data.params["arm"] == training["place"].split("/")[0]
            assert run.data.params["training.epochs"] == "1"
            log = [json.loads(line) for line in (Path(study["folder"]) / training["place"] / "log.jsonl").open()]
            sent = client.get_metric_history(run.info.run_id, "loss_nats_per_token")
            assert [(metric.step, metric.value) for metric in sent] == [
                (step["step"], step["loss_nats_per_token"]) for step in log
            ]
            assert run.data.metrics["test_nats_per_token"] == training["test"]
            compared += len(sent)
    print(f"MLflow {mlflow.__version__}: {compared} losses of {len(listed)} studies are equal")


def check_copies(program, folder, copies):
    """Studies of the same name in another folder keep their own runs."""
    shutil.copytree(folder, copies)
    client = mlflow.MlflowClient(URL)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    before = len(client.search_runs(experiments))
    subprocess.run([program, "runs", copies, "--mlflow", URL], check=True, stdout=subprocess.DEVNULL)
    assert len(client.search_runs(experiments)) == 2 * before


def main(program, folder):
    with tempfile.TemporaryDirectory() as work:
        command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(PORT)]
        store = ["--backend-store-uri", f"sqlite:///{work}/runs.db", "--default-artifact-root", f"{work}/artifacts"]
        server = subprocess.Popen([sys.executable, *command, *store], stderr=subprocess.DEVNULL)
        try:
            wait(server)
            check(program, folder)
            check_copies(program, Path(folder), Path(work) / "copies")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
