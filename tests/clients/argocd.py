#!/usr/bin/env python3
"""What Argo CD would show: runs the health script of deploy/argocd over objects in every state.

Needs lua5.1, the language that Argo CD speaks, and pyyaml; where one is absent, ends with code 77 and a line
SKIP.
Knows nothing of Argo CD beyond its contract: a global `obj` in, a table with status and message out.
The objects are those of tests/vectors/standings.json, which the operator wrote itself (tests/operator/standings.rs), and a few
that no operator writes.
"""

import copy
import json
import pathlib
import re
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
STALLED = [
    condition("Ready", "False", "KeyDisabled"),
    condition("Stalled", "True", "KeyDisabled", "enable the key"),
]
REVERTED = [
    condition("Ready", "True", "Revoked"),
    condition("RevocationReverted", "True", "RevocationReverted", "enabled by somebody else 2 times"),
]

# What the operator writes, and what Argo CD should make of it.
STANDINGS = {
    "copied": ("Progressing", "Copying"),
    "cutover": ("Suspended", "CutoverPending"),
    "detachment": ("Suspended", "CutoverPending"),
    "held by a limit": ("Degraded", "TooManyAffected"),
    "held for approval": ("Suspended", "ApprovalMissing"),
    "journal changed": ("Degraded", "JournalBroken"),
    "kept by another": ("Progressing", "OverlappingRevocation"),
    "key disabled": ("Degraded", "KeyDisabled"),
    "one of two": ("Healthy", "Revoked"),
    "planned, not approved": ("Healthy", "Planned"),
    "ready": ("Healthy", "Available"),
    "reverted": ("Degraded", "RevocationReverted"),
    "reverted, then restored": ("Healthy", "Restored"),
    "revoked, machines run": ("Healthy", "Revoked"),
    "suspended": ("Suspended", "Suspended"),
}
OBJECTS = json.loads((ROOT / "tests/vectors/standings.json").read_text(encoding="utf-8"))


def going(name):
    """The same object while it is being deleted."""
    obj = copy.deepcopy(OBJECTS[name])
    obj["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    return obj


CASES = [(name, OBJECTS[name], *STANDINGS[name]) for name in sorted(STANDINGS.keys() & OBJECTS.keys())]
CASES += [(f"{name}, being deleted", going(name), "Progressing", "being deleted") for name in sorted(OBJECTS)]
CASES += [
    ("a new object without a status", item(), "Progressing", "waiting"),
    ("a status without conditions", {"metadata": {"generation": 1}, "status": {}}, "Progressing", "waiting"),
    ("an object that is ready", item(READY), "Healthy", "Available: encrypted under key-a"),
    ("an object that needs a human", item(STALLED), "Degraded", "KeyDisabled: enable the key"),
    ("a ready object whose spec has just changed", item(READY, observed=1), "Progressing", "latest change"),
    ("a stalled object whose spec has just changed", item(STALLED, observed=1), "Progressing", "latest change"),
    ("a status that does not say of which generation it speaks", item(READY, observed=None), "Progressing", "latest"),
    ("a revoked key that somebody gave back", item(REVERTED), "Degraded", "enabled by somebody else"),
    ("a reverted revocation whose spec has just changed", item(REVERTED, observed=1), "Progressing", "latest change"),
    ("a conditions list without Ready", item([condition("Encrypted", "True", "Available")]), "Progressing", "waiting"),
    (
        "Ready False without a word of what goes on",
        item([condition("Ready", "False", "Creating")]),
        "Progressing",
        "Creating",
    ),
]


def foreign_reasons():
    """Reasons in the cases that the operator does not have."""
    source = (ROOT / "src/decision/reason.rs").read_text(encoding="utf-8")
    known = set(re.findall(r"^    (\w+) => (?:Nobody|Time|Outside|Object),$", source, re.MULTILINE))
    lists = (obj.get("status", {}).get("conditions", []) for _, obj, _, _ in CASES)
    used = {one["reason"] for conditions in lists for one in conditions}
    return sorted(used - known) if len(known) > 50 else ["src/decision/reason.rs was not understood"]


config = yaml.safe_load((ROOT / "deploy/argocd/argocd-cm.yaml").read_text())["data"]
crds = [yaml.safe_load(file.read_text()) for file in sorted((ROOT / "crds").glob("*.ecskms.dev.yaml"))]
expected = {
    f"resource.customizations.health.{crd['spec']['group']}_{crd['spec']['names']['kind']}" for crd in crds
}
failed = 0


def hold(name, holds, got=""):
    global failed
    failed += not holds
    print(f"{'ok  ' if holds else 'FAIL'} argocd: {name}", "" if holds else got)


hold("every kind has a health script", set(config) == expected and expected, sorted(set(config) ^ expected))
hold("every standing is judged", STANDINGS.keys() == OBJECTS.keys(), sorted(STANDINGS.keys() ^ OBJECTS.keys()))
hold("every reason is one of the operator's", not foreign_reasons(), foreign_reasons())
for key, script in config.items():
    for name, obj, status, words in CASES:
        got = health(script, obj)
        hold(f"{key.rsplit('_', 1)[1]}: {name}", got[0] == status and words in got[1], got)
print(f"argocd: {len(CASES) * len(config) + 3 - failed} passed, {failed} failed")
sys.exit(1 if failed else 0)
