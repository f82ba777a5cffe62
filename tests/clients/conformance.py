#!/usr/bin/env python3
"""`ecskms apiserver` against the recorded answers of a real kube-apiserver: conformance.py PATH-OF-ECSKMS [DIRECTORY-OF-THE-SUITE].

The suite is not part of this repository: it lies beside it where it exists, and the script is skipped by name where it does not. A
*core* case that differs is a failure unless conformance-known.txt names it with a reason; a known one that is the same again must go.
"""
import os
import re
import subprocess
import sys

import servers

SUITE_SECONDS_MAX = 600
HERE = os.path.dirname(os.path.abspath(__file__))
BESIDE = os.path.join(HERE, "..", "..", "..", "shared", "kube-conformance")


def known_differences():
    """Cases that may differ, with their reasons; a case without a reason is a mistake."""
    known = {}
    with open(os.path.join(HERE, "conformance-known.txt")) as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                case, _, reason = line.strip().partition(" ")
                servers.expect(len(reason.strip()) > 10, f"{case} is known without a reason")
                known[case] = reason.strip()
    return known


def main():
    servers.need_kubectl()
    suite = sys.argv[2] if len(sys.argv) > 2 else BESIDE
    if not os.path.isfile(os.path.join(suite, "conformance.py")):
        print("SKIPPED: the conformance suite is not beside this repository")
        sys.exit(servers.SKIPPED)
    known = known_differences()
    with servers.Servers() as world:
        world.start_api()
        command = [
            sys.executable, os.path.join(suite, "conformance.py"), "--kubeconfig", world.kubeconfig, "--kubectl", "kubectl",
            "--python", sys.executable, "--compare", os.path.join(suite, "golden.json")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SUITE_SECONDS_MAX, env=world.kubectl_environment())
    print(done.stdout[-20000:])
    print(done.stderr[-3000:])
    sys.exit(judge(done.stdout, known))


def judge(output, known):
    """Counts the suite's lines; answers the exit code."""
    core = set(re.findall(r"^differs +(\S+) \(core\)", output, re.MULTILINE))
    same = set(re.findall(r"^same +(\S+)", output, re.MULTILINE))
    new, stale = sorted(core - set(known)), sorted(set(known) & same)
    for case in new:
        print(f"FAIL {case}: differs, and is not known to")
    for case in stale:
        print(f"FAIL {case}: is the same now; take it out of conformance-known.txt")
    print(f"{len(same)} passed, {len(new) + len(stale)} failed")
    return 1 if new or stale or not same else 0


if __name__ == "__main__":
    main()
