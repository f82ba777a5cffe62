#!/usr/bin/env python3
"""The admission policies on a real kube-apiserver: every case of tests/vectors/admission.json, asked with `kubectl --as`.

Needs a scratch cluster without the operator, named by ECSKMS_SCRATCH_KUBECONFIG with the rights of an administrator, and
kubectl and pyyaml; where one is absent, ends with code 77 and a line SKIP. The embedded API server stores policies and does not run
them. Leaves the policies, roles and objects in the cluster. tests/generated/admission.rs decides the same cases without a
cluster.
"""

import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = os.environ.get("ECSKMS_SCRATCH_KUBECONFIG")
RESOURCE = "keyrevocations.ecskms.dev"
ENFORCED_SECONDS_MAX = 60


def skip(why):
    print(f"SKIP admission: {why}")
    sys.exit(77)


try:
    import yaml
except ImportError as error:
    skip(f"{error}; pip install pyyaml")
if not CONFIG or shutil.which("kubectl") is None:
    skip("ECSKMS_SCRATCH_KUBECONFIG names no scratch cluster, or kubectl is absent")
FILE = json.loads((ROOT / "tests/vectors/admission.json").read_text(encoding="utf-8"))


def kubectl(*arguments, text=None, user=None):
    command = ["kubectl", "--kubeconfig", CONFIG, *(["--as", user] if user else []), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)


def must(*arguments, text=None):
    done = kubectl(*arguments, text=text)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def username(key):
    return FILE["users"][key].get("username", key)


def people():
    """The users of the cases, with the shipped roles or with roles of their own."""
    group = "rbac.authorization.k8s.io"
    # kubectl reads a status before it patches it.
    look = {"apiGroups": ["ecskms.dev"], "resources": ["keyrevocations/status"], "verbs": ["get"]}
    items = [{"kind": "ClusterRole", "metadata": {"name": "case-look"}, "rules": [look]}]
    for key, user in FILE["users"].items():
        subject = {"kind": "User", "name": username(key), "apiGroup": group}
        if "verbs" in user:
            every = user["verbs"] == ["*"]
            rule = {"apiGroups": ["*" if every else "ecskms.dev"], "verbs": user["verbs"]}
            rule["resources"] = ["*"] if every else ["keyrevocations"]
            metadata = {"name": f"case-{key}"}
            items.append({"kind": "ClusterRole", "metadata": metadata, "rules": [rule]})
        for role in [*user.get("roles", [f"case-{key}"]), "case-look"]:
            binding = {"kind": "ClusterRoleBinding", "metadata": {"name": f"case-{key}-{role}"}}
            binding["roleRef"] = {"kind": "ClusterRole", "name": role, "apiGroup": group}
            items.append({**binding, "subjects": [subject]})
    for item in items:
        item["apiVersion"] = f"{group}/v1"
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def merged(target, patch):
    """A JSON merge patch."""
    if not isinstance(patch, dict):
        return target if patch is None else patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def named(value, name):
    return json.loads(json.dumps(value).replace('"NAME"', f'"{name}"'))


def prepare(name, case):
    """What the case finds: made by an administrator, before the policies are there."""
    before = named(merged(FILE["base"], case.get("before")), name)
    must("create", "-f", "-", text=json.dumps(before))
    if "status" in before:
        patch = json.dumps({"status": before["status"]})
        must("patch", RESOURCE, name, "--subresource=status", "--type=merge", "-p", patch)


def ask(name, case):
    user, after = username(case["user"]), named(case.get("after", {}), name)
    what = case["do"]
    if what == "create":
        whole = named(merged(merged(FILE["base"], case.get("before")), after), name)
        return kubectl("create", "-f", "-", text=json.dumps(whole), user=user)
    if what in ("update", "status"):
        part = ["--subresource=status"] if what == "status" else []
        return kubectl("patch", RESOURCE, name, *part, "--type=merge", "-p", json.dumps(after), user=user)
    if what == "delete":
        return kubectl("delete", RESOURCE, name, "--wait=false", user=user)
    if what == "deletecollection":
        path = f"/apis/ecskms.dev/v1alpha1/keyrevocations?fieldSelector=metadata.name%3D{name}"
        return kubectl("delete", "--raw", path, user=user)
    # The definition itself is only asked about.
    crd = case["before"]["metadata"]
    for key, value in crd.get("annotations", {}).items():
        must("annotate", "crd", crd["name"], "--overwrite", f"{key}={value}")
    answer = kubectl("delete", "crd", crd["name"], "--dry-run=server", user=user)
    for key in crd.get("annotations", {}):
        must("annotate", "crd", crd["name"], f"{key}-")
    return answer


def judge(number, case):
    """None, or what is wrong."""
    done = ask(f"case-{number}", case)
    refused, words = done.returncode != 0, case.get("refusedBy")
    if words is None:
        return f"refused: {done.stderr}" if refused else None
    if not refused:
        return f"allowed: {done.stdout}"
    expected = "cannot" if words == "RBAC" else words
    by_schema = case.get("schemaToo") and "is invalid" in done.stderr
    return None if expected in done.stderr or by_schema else f"refused for another reason: {done.stderr}"


def policies(variables):
    """The shipped policies with some of their variables set otherwise."""
    documents = list(yaml.safe_load_all((ROOT / "deploy/admission.yaml").read_text(encoding="utf-8")))
    for document in documents:
        for variable in document["spec"].get("variables", []):
            variable["expression"] = variables.get(variable["name"], variable["expression"])
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})


def enforced():
    """Waits until the API server runs the policies."""
    end = time.monotonic() + ENFORCED_SECONDS_MAX
    wrong = json.dumps(named(FILE["base"], "probe"))
    while kubectl("create", "--dry-run=server", "-f", "-", text=wrong).returncode == 0:
        assert time.monotonic() < end, "the API server does not run the policies"
        time.sleep(0.5)
    time.sleep(2)  # the policies become known one after the other


def main():
    must("apply", "--server-side", "-k", str(ROOT / "crds"))
    must("wait", "--for=condition=Established", "crd", "--all")
    assert not must("get", RESOURCE, "-o", "name"), "this cluster is in use: it holds KeyRevocations"
    for file in ["namespace", "service-account", "rbac"]:
        must("apply", "--server-side", "-f", str(ROOT / f"deploy/{file}.yaml"))
    must("apply", "-f", "-", text=people())
    must("delete", "--ignore-not-found", "-f", str(ROOT / "deploy/admission.yaml"))
    cases = list(enumerate(FILE["cases"]))
    there = [(number, case) for number, case in cases if case["do"] not in ("create", "undefine")]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: prepare(f"case-{one[0]}", one[1]), there))
    failed, present = 0, None
    # In the order of the file, which keeps cases with the same variables together.
    for number, case in cases:
        if case.get("with", {}) != present:
            present = case.get("with", {})
            must("apply", "--server-side", "--force-conflicts", "-f", "-", text=policies(present))
            enforced()
        problem = judge(number, case)
        failed += problem is not None
        verdict = f"refused: {case['refusedBy']}" if "refusedBy" in case else "allowed"
        print(f"{'FAIL' if problem else 'ok  '} {case['name']} -> {verdict}", problem or "", flush=True)
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
