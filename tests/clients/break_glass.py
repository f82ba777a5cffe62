#!/usr/bin/env python3
"""`ecskms revoke` and `ecskms restore`, which work without any cluster: break_glass.py PATH-OF-ECSKMS.

Every run is a process of its own against the simulated cloud. The journal is verified here by an implementation of its own.
"""
import datetime
import hashlib
import json
import os
import signal
import subprocess

import servers
from servers import ACCESS_KEY, contains, expect, until

REGION = "cn-hangzhou"
KEY = "key-hzz65f0a1b2c3d4e5f6a7b8"
WHY = "stolen laptop of an administrator"
CHECKS = []


def check(function):
    """Registers a check under its name."""
    CHECKS.append(function)
    return function


def arguments(world, verb, key, *more, yes=True):
    """The command line."""
    given = [verb, key, "--region", REGION, "--reason", WHY, "--cloud-endpoint", world.cloud]
    return given + (["--yes"] if yes else []) + list(more)


def environment(credentials):
    """The environment without settings of whoever runs this."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ECSKMS_", "ALIBABA_CLOUD_"))}
    return {**clean, **credentials}


def run(world, verb, key, *more, code, yes=True, credentials=None):
    """Runs to the end; answers (JSON lines, whole output)."""
    done = subprocess.run(
        [world.binary, *arguments(world, verb, key, *more, yes=yes)], capture_output=True, text=True, timeout=120, cwd=world.directory,
        stdin=subprocess.DEVNULL, env=environment(ACCESS_KEY if credentials is None else credentials))
    expect(done.returncode == code, f"{verb} {key} {more} ended with {done.returncode}: {done.stdout[-1500:]} {done.stderr[-1500:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")], done.stdout + done.stderr


def state(world, key=KEY):
    """State of a key in the cloud."""
    return world.sim("GET", "state")["keys"][key]["state"]


def record_of(world, key=KEY):
    """The record in the working directory."""
    with open(os.path.join(world.directory, f"ecskms-revocation-{key}.json")) as file:
        return json.load(file)


def forget(world, key=KEY):
    """Takes the record away, as somebody who files it would."""
    os.remove(os.path.join(world.directory, f"ecskms-revocation-{key}.json"))


def micros(text):
    """Microseconds since 1970 of an RFC 3339 time."""
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(microseconds=1)


def verify(scope, journal):
    """Raises unless every entry fits to the one before: SHA-256 over length-prefixed texts."""
    before = hashlib.sha256(f"ecskms journal of {scope}".encode()).hexdigest()
    for number, entry in enumerate(journal, 1):
        texts = [before, str(entry["seq"]), str(micros(entry["time"])), entry["action"], entry["target"], entry.get("requestId") or "-", entry["result"]]
        joined = "".join(f"{len(text.encode())}:{text}\n" for text in texts)
        expect((entry["seq"], entry["hash"]) == (number, hashlib.sha256(joined.encode()).hexdigest()), f"entry {number} does not fit: {entry}")
        before = entry["hash"]


@check
def a_plan_changes_nothing_and_says_who_is_hit(world):
    mark = world.mark()
    lines, _ = run(world, "revoke", KEY, "--plan", code=0, yes=False)
    result = lines[-1]
    expect(result["desiredState"] == "Planned" and result["status"]["blastRadius"]["digest"], str(result)[:800])
    expect(state(world) == "Enabled", state(world))
    made = {call["action"] for call in world.sim("GET", f"log?after={mark}")}
    expect(all(action.startswith(("Describe", "List", "Get")) for action in made), str(made))
    expect(not os.path.exists(os.path.join(world.directory, f"ecskms-revocation-{KEY}.json")), "a plan writes no record")


@check
def nothing_happens_without_a_confirmation(world):
    mark = world.mark()
    _, output = run(world, "revoke", KEY, code=3, yes=False)
    contains(output, "not confirmed", "--yes")
    expect(world.sim("GET", f"log?after={mark}") == [], "calls were made")


@check
def a_key_is_revoked_and_exactly_restored(world):
    lines, _ = run(world, "revoke", KEY, code=0)
    *journal, result = lines
    expect(state(world) == "Disabled", state(world))
    status = result["status"]
    expect(any(entry["action"] == "DisableKey" and entry["requestId"] for entry in journal), str(journal))
    expect(status["priorState"]["keyState"] == "Enabled" and status["timings"]["revokedAt"], str(status)[:800])
    expect(status["blastRadius"]["disks"] > 0 and status["blastRadius"]["complete"], str(status["blastRadius"])[:800])
    expect(any(each["result"] == "Pass" for each in status["verification"]), str(status["verification"]))
    record = record_of(world)
    verify(record["metadata"]["uid"], record["status"]["journal"])
    expect(journal == record["status"]["journal"], "what is printed is what is recorded")
    again, _ = run(world, "revoke", KEY, code=0)
    expect(len(again) >= 1 and state(world) == "Disabled", "the same command again finds it done")
    lines, _ = run(world, "restore", KEY, code=0)
    expect(state(world) == "Enabled", state(world))
    expect(any(entry.get("action") == "EnableKey" for entry in lines[:-1]), str(lines[:-1]))
    record = record_of(world)
    verify(record["metadata"]["uid"], record["status"]["journal"])
    expect(world.calls("ScheduleKeyDeletion") == [], "nothing irreversible")
    _, output = run(world, "revoke", KEY, code=3)
    contains(output, "another revocation, or of one that was restored", "--record")
    forget(world)


@check
def a_key_that_was_disabled_before_stays_disabled(world):
    world.change("set", "key", KEY, state="Disabled")
    run(world, "revoke", KEY, code=0)
    mark = world.mark()
    run(world, "restore", KEY, code=0)
    expect(state(world) == "Disabled" and world.calls("EnableKey", mark) == [], state(world))
    world.change("set", "key", KEY, state="Enabled")
    forget(world)


@check
def running_instances_are_stopped_first_and_started_again(world):
    running = [each["id"] for each in world.sim("GET", "state")["instances"].values() if each["status"] == "Running"]
    lines, _ = run(world, "revoke", KEY, "--running-instances", "ForceStop", code=0)
    actions = [entry["action"] for entry in lines[:-1]]
    stopped = lines[-1]["status"].get("stops", {}).get("forced", [])
    expect(set(stopped) <= set(running), f"{stopped} of {running}")
    if stopped:
        expect(actions.index("StopInstances") < actions.index("DisableKey"), str(actions))
    run(world, "restore", KEY, code=0)
    states = world.sim("GET", "state")["instances"]
    until("they run again", lambda: all(world.sim("GET", "state")["instances"][each]["status"] == "Running" for each in stopped), 30)
    expect(states is not None and state(world) == "Enabled", state(world))
    forget(world)


@check
def a_guard_holds_the_cut_back(world):
    lines, _ = run(world, "revoke", KEY, "--acknowledged-digest", "0" * 16, "--timeout-seconds", "15", code=3)
    expect(state(world) == "Enabled", state(world))
    contains(lines[-1]["message"], "digest")
    forget(world)


@check
def throttling_and_lost_answers_are_gone_through(world):
    world.sim("PUT", "faults", [
        {"action": "DisableKey", "when": "before", "status": 429, "code": "Rejected.Throttling", "retryAfterMs": 300000, "times": 2},
        {"action": "DisableKey", "when": "after", "dropConnection": True, "times": 1},
    ])
    run(world, "revoke", KEY, code=0)
    world.sim("DELETE", "faults")
    expect(state(world) == "Disabled", state(world))
    run(world, "restore", KEY, code=0)
    forget(world)


@check
def whoever_is_killed_goes_on_with_the_same_command(world):
    for action, when in [("DisableKey", "before"), ("DisableKey", "after"), ("DescribeDisks", "before")]:
        world.sim("PUT", "faults", [{"action": action, "when": when, "delayMs": 20000, "times": 1}])
        mark = world.mark()
        process = subprocess.Popen(
            [world.binary, *arguments(world, "revoke", KEY)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL, cwd=world.directory, env=environment(ACCESS_KEY))
        reached = ["DescribeKey"] if action == "DisableKey" else ["DisableKey"]
        until("it has begun", lambda: any(world.calls(each, mark) for each in reached) and os.path.exists(
            os.path.join(world.directory, f"ecskms-revocation-{KEY}.json")), 20)
        until("the prior state is recorded", lambda: "priorState" in record_of(world).get("status", {}), 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        world.sim("DELETE", "faults")
        run(world, "revoke", KEY, code=0)
        record = record_of(world)
        expect((state(world), record["status"]["priorState"]["keyState"]) == ("Disabled", "Enabled"), f"{action} {when}")
        verify(record["metadata"]["uid"], record["status"]["journal"])
        run(world, "restore", KEY, code=0)
        expect(state(world) == "Enabled", f"{action} {when}: {state(world)}")
        forget(world)


@check
def bad_input_is_told_and_nothing_is_done(world):
    mark = world.mark()
    for key, words in [("key-of-nowhere", "key"), ("alias/acs/ecs", "service"), ("alias/ecskms-demo", "alias")]:
        lines, output = run(world, "revoke", key, "--record", f"record-{len(key)}.json", "--timeout-seconds", "15", code=3)
        contains((lines[-1]["message"] if lines else output).lower(), words)
    _, output = run(world, "restore", KEY, code=3)
    contains(output, "there is no such file", "--record")
    with open(os.path.join(world.directory, "broken.json"), "w") as file:
        file.write("{}")
    _, output = run(world, "restore", KEY, "--record", "broken.json", code=3)
    contains(output, "not the record of a revocation")
    lines, _ = run(world, "revoke", KEY, "--method", "DetachEcsRole", "--record", "role.json", "--timeout-seconds", "15", code=3)
    contains(lines[-1]["message"], "acknowledgeAccountWide")
    run(world, "revoke", KEY, "--method", "Delete", code=2)
    run(world, "revoke", KEY, "--running-instances", "PerInstance", code=2)
    lines, _ = run(world, "revoke", KEY, "--record", "limited.json", "--timeout-seconds", "15", code=3, credentials=servers.LIMITED_KEY)
    contains(lines[-1]["message"], "kms:D")
    expect(not any(world.calls(action, mark) for action in ("DisableKey", "DetachPolicyFromRole") if action != "DisableKey"), "no grant was taken")
    expect(state(world) == "Enabled", state(world))


@check
def a_record_that_was_tampered_with_is_noticed(world):
    run(world, "revoke", KEY, code=0)
    path = os.path.join(world.directory, f"ecskms-revocation-{KEY}.json")
    record = record_of(world)
    record["status"]["journal"][0]["result"] = "Forged"
    with open(path, "w") as file:
        json.dump(record, file)
    lines, _ = run(world, "restore", KEY, code=0)
    expect(state(world) == "Enabled", "tampering with the journal holds nothing back")
    told = json.dumps(lines[-1]["status"])
    expect("ampered" in told or "JournalBroken" in told, told[:1500])
    forget(world)


def main():
    checks = servers.Checks()
    with servers.Servers() as world:
        world.start_cloud(60)
        for function in CHECKS:
            checks.run(function.__name__, function, world)
    checks.end()


if __name__ == "__main__":
    main()
