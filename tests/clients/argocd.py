#!/usr/bin/env python3
"""What Argo CD would show: runs the health script of deploy/argocd over objects in every state.

Needs lua5.1, the language that Argo CD speaks, and pyyaml; where one is absent, ends with code 77 and a line
SKIP.
Knows nothing of Argo CD beyond its contract: a global `obj` in, a table with status and message out.
"""

import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def skip(why):
    print(f"SKIP argocd: {why}")
    sys.exit(77)


try:
    import yaml
except ImportError as error:
    skip(f"{error}; pip install pyyaml")
LUA = shutil.which("lua5.1")
if LUA is None:
    skip("lua5.1 is absent; apt-get install lua5.1")


def to_lua(value):
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return (
            '"'
            + "".join(c if c.isalnum() or c in " .:/-" else "\\%03d" % b for c in value for b in c.encode())
            + '"'
        )
    if isinstance(value, list):
        return "{" + ",".join(to_lua(item) for item in value) + "}"
    return "{" + ",".join(f"[{to_lua(key)}]={to_lua(item)}" for key, item in value.items()) + "}"


def health(script, obj):
    program = f"obj = {to_lua(obj)}\nlocal function check()\n{script}\nend\n"
    program += 'local answer = check()\nio.write(answer.status, "\\n", answer.message)\n'
    run = subprocess.run([LUA, "-"], input=program, capture_output=True, text=True, timeout=10)
    assert run.returncode == 0, run.stderr
    status, _, message = run.stdout.partition("\n")
    return status, message


def condition(kind, status, reason, message=""):
    return {"type": kind, "status": status, "reason": reason, "message": message}


def item(conditions=None, observed=2, generation=2, deleted=False):
    metadata = {"name": "data", "generation": generation}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    obj = {"apiVersion": "ecskms.dev/v1alpha1", "metadata": metadata}
    if conditions is not None:
        obj["status"] = {"conditions": conditions}
        if observed is not None:
            obj["status"]["observedGeneration"] = observed
    return obj


READY = [condition("Ready", "True", "Available", "encrypted under key-a")]
COPYING = [
    condition("Ready", "Unknown", "Copying"),
    condition("Reconciling", "True", "Copying", "40 percent"),
]
STALLED = [
    condition("Ready", "False", "KeyDisabled"),
    condition("Stalled", "True", "KeyDisabled", "enable the key"),
]
REVERTED = [
    condition("Ready", "True", "Revoked"),
    condition("RevocationReverted", "True", "RevocationReverted", "enabled by somebody else 2 times"),
]
UNAPPROVED = [
    condition("Ready", "Unknown", "ApprovalMissing"),
    condition("Reconciling", "True", "ApprovalMissing"),
    condition("Approved", "False", "ApprovalMissing", "1 of 2 approvals"),
]
PLANNED = [
    condition("Ready", "True", "Planned", "nothing was changed"),
    condition("Approved", "False", "ApprovalMissing", "0 of 1 approvals"),
]
REVOKED = [
    condition("Ready", "True", "Revoked", "key calls are rejected"),
    condition("Contained", "False", "StillReadable", "2 instances still run"),
    condition("OverlappingRevocation", "True", "OverlappingRevocation", "inc-4712 holds the key too"),
]
SUSPENDED = [condition("Ready", "False", "Suspended", "suspend is true")]

CASES = [
    ("a new object without a status", item(), "Progressing", "waiting"),
    ("a status without conditions", {"metadata": {"generation": 1}, "status": {}}, "Progressing", "waiting"),
    ("an object that is ready", item(READY), "Healthy", "Available: encrypted under key-a"),
    ("an object that is copied", item(COPYING), "Progressing", "Copying: 40 percent"),
    ("an object that needs a human", item(STALLED), "Degraded", "KeyDisabled: enable the key"),
    ("an object that is suspended", item(SUSPENDED), "Suspended", "Suspended: suspend is true"),
    ("a ready object whose spec has just changed", item(READY, observed=1), "Progressing", "latest change"),
    (
        "a stalled object whose spec has just changed",
        item(STALLED, observed=1),
        "Progressing",
        "latest change",
    ),
    (
        "a status that does not say of which generation it speaks",
        item(READY, observed=None),
        "Progressing",
        "latest",
    ),
    ("a ready object that is being deleted", item(READY, deleted=True), "Progressing", "being deleted"),
    ("a revoked key that somebody gave back", item(REVERTED), "Degraded", "enabled by somebody else"),
    ("a revocation that waits for approval", item(UNAPPROVED), "Suspended", "1 of 2 approvals"),
    ("a plan that nobody has approved yet", item(PLANNED), "Healthy", "nothing was changed"),
    ("a revoked key with machines that still run", item(REVOKED), "Healthy", "key calls are rejected"),
    ("a revocation that is being deleted", item(REVOKED, deleted=True), "Progressing", "being deleted"),
    (
        "a reverted revocation whose spec has just changed",
        item(REVERTED, observed=1),
        "Progressing",
        "latest change",
    ),
    ("a stalled object that is being deleted", item(STALLED, deleted=True), "Progressing", "being deleted"),
    (
        "a conditions list without Ready",
        item([condition("Encrypted", "True", "Available")]),
        "Progressing",
        "waiting",
    ),
    (
        "Ready False without a word of what goes on",
        item([condition("Ready", "False", "Creating")]),
        "Progressing",
        "Creating",
    ),
]

config = yaml.safe_load((ROOT / "deploy/argocd/argocd-cm.yaml").read_text())["data"]
crds = [yaml.safe_load(file.read_text()) for file in sorted((ROOT / "crds").glob("*.ecskms.dev.yaml"))]
expected = {
    f"resource.customizations.health.{crd['spec']['group']}_{crd['spec']['names']['kind']}" for crd in crds
}
failed = 0 if set(config) == expected and expected else 1
print(f"{'FAIL' if failed else 'ok  '} argocd: every kind has a health script")
for key, script in config.items():
    for name, obj, status, words in CASES:
        got = health(script, obj)
        good = got[0] == status and words in got[1]
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'} argocd: {key.rsplit('_', 1)[1]}: {name}", "" if good else got)
print(f"argocd: {len(CASES) * len(config) + 1 - failed} passed, {failed} failed")
sys.exit(1 if failed else 0)
