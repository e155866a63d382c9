"""What stands in `examples/serve` holds together, and the application runs on Ray Serve."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from served import Running

import weevit
from conftest import png
from weevit.cli.serve import serve

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "serve"


def options() -> set[str]:
    return {name for parameter in serve.params for name in parameter.opts}


def words_of(text: str) -> list[str]:
    return [word.strip('",[]') for word in text.split() if word.strip('",[]').startswith("--")]


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "weevit.service", "kubernetes.yaml"])
def test_every_option_is_one(name: str) -> None:
    lines = (FOLDER / name).read_text().splitlines()
    own = [line for line in lines if any(key in line for key in ("ENTRYPOINT", "command:", "ExecStart", "args:"))]
    given = words_of(" ".join(own))
    assert given
    assert set(given) <= options()


def test_the_manifests_are_as_strict_as_the_unit() -> None:
    deployment, service, budget = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"]
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["weevit"]
    assert compose["read_only"]
    assert "USER 10001" in (FOLDER / "Dockerfile").read_text()
    drain = int(container["args"][container["args"].index("--drain") + 1])
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain + 30


FIELDS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {"predictor", "transformer", "explainer"},
    "spec.predictor": {"containers", "minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "timeout", "model"},
    "spec.predictor.containers": {
        *("name", "image", "args", "command", "env", "ports", "resources", "readinessProbe", "livenessProbe"),
        *("securityContext", "volumeMounts", "imagePullPolicy", "workingDir"),
    },
    "spec.predictor.containers.readinessProbe": {"httpGet", "periodSeconds", "initialDelaySeconds", "timeoutSeconds"},
    "spec.predictor.containers.readinessProbe.httpGet": {"path", "port", "scheme", "host", "httpHeaders"},
    "spec.predictor.containers.ports": {"containerPort", "protocol", "name", "hostPort", "hostIP"},
    "spec.predictor.containers.resources": {"requests", "limits", "claims"},
}
"""Fields of KServe's InferenceService, v1beta1, at the levels that the manifest has (its CRD at aaac4e294)."""


def test_kserves_manifest_has_fields_of_its_kind() -> None:
    manifest = yaml.safe_load((FOLDER / "kserve.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    seen = set()

    def walk(value: Any, where: str) -> None:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and where in FIELDS:
                seen.add(where)
                assert set(one) <= FIELDS[where], where
                for name, inner in one.items():
                    walk(inner, f"{where}.{name}".strip("."))

    walk(manifest, "")
    assert seen == set(FIELDS)
    (container,) = manifest["spec"]["predictor"]["containers"]
    assert container["readinessProbe"]["httpGet"]["port"] == container["ports"][0]["containerPort"]


def test_the_help_names_what_there_is() -> None:
    shown = CliRunner().invoke(serve, ["--help"]).output
    assert "/v1/classify" in shown
    assert "/openapi.json" in shown


@pytest.mark.usefixtures("serve_extra")
def test_the_application_answers_without_its_server(digits: weevit.Predictor) -> None:
    """As any server of ASGI runs it."""
    httpx = pytest.importorskip("httpx")
    import asyncio

    from weevit.serve.app import asgi

    async def run() -> Any:
        app = asgi("digits", keys=["a-key-of-more-than-sixteen-characters"], metrics=True)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            assert (await client.get("/readyz")).text == "ready\n"
            assert (await client.post("/v1/classify", content=png(1))).status_code == 401
            headers = {"Authorization": "Bearer a-key-of-more-than-sixteen-characters"}
            return (await client.post("/v1/classify", content=png(1), headers=headers)).json()

    (row,) = asyncio.run(run())["results"]
    assert row["class_name"] == list(digits.classify(png(1)).labels)


@pytest.mark.usefixtures("serve_extra")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keys": "a-key-of-more-than-sixteen-characters"}, "API keys are a list"),  # each letter would be a key
        ({"keys": [""]}, "16 characters or more"),  # who sends no key would have it
        ({"keys": ["short"]}, "16 characters or more"),
        ({"keys": [5]}, "API keys are a list"),
        ({"index": 5}, "index is a path"),
    ],
)
def test_the_application_refuses_what_it_cannot_mean(arguments: dict[str, Any], message: str) -> None:
    from weevit.serve.app import asgi

    with pytest.raises(weevit.UsageError, match=message):
        asgi("digits", **arguments)
    with pytest.raises(weevit.UsageError, match="A model is a name or a path"):
        asgi(["digits"])


@pytest.mark.usefixtures("serve_extra")
def test_the_application_takes_the_path_of_a_model(tmp_path: Path) -> None:
    from weevit.serve.app import asgi
    from weevit.zoo.resolve import resolve

    folder = tmp_path / "mine"
    shutil.copytree(resolve("digits").path.parent, folder)
    assert [served.name for served in asgi(folder)._service.loaded()] == ["mine"]


@pytest.mark.usefixtures("serve_extra")
def test_s15_several_workers_of_uvicorn(digits: weevit.Predictor, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from weevit.serve.app import asgi\n\napp = asgi('digits')\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "own:app", "--workers", "2", "--port", str(port), "--no-access-log"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        server, answers = Running(process, port), []  # type: ignore[arg-type]  # its output is not read
        limit = time.monotonic() + 60
        while len(answers) < 12 and time.monotonic() < limit:
            try:
                answers.append(server.ask("POST", "/v1/classify", png(1)).json()["results"][0]["class_name"])
            except OSError:
                time.sleep(0.2)
        process.terminate()
        assert process.wait(30) == 0
    assert answers == [list(digits.classify(png(1)).labels)] * 12


@pytest.mark.usefixtures("serve_extra")
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray[serve], which is not installed")
def test_the_application_on_ray_serve(digits: weevit.Predictor) -> None:
    script = (
        "import http.client, sys; from ray import serve; from ray_serve import app; serve.run(app)\n"
        "client = http.client.HTTPConnection('127.0.0.1', 8000)\n"
        "client.request('POST', '/v1/classify', sys.stdin.buffer.read())\n"
        "print('ANSWER', client.getresponse().read())\n"
        "serve.shutdown()"
    )
    environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{FOLDER}"}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=FOLDER, env=environment, input=png(1), capture_output=True, timeout=200
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert f'"class_name": ["{digits.classify(png(1)).labels[0]}"' in done.stdout.decode()
    assert time.monotonic() - start < 200
