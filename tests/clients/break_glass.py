#!/usr/bin/env python3
"""`ecskms revoke` and `ecskms restore`, which work without any cluster: break_glass.py PATH-OF-ECSKMS.

Every run is a process of its own against the simulated cloud. The journal is verified here by an implementation of its own.
"""
import datetime
import hashlib
import json
import os
import pty
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
    """The command line; what is given here comes once, in the place of what is usual."""
    given = [verb, key]
    for flag, value in (("--region", REGION), ("--reason", WHY), ("--cloud-endpoint", world.cloud)):
        given += [] if flag in more else [flag, value]
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


def begin(world, verb, *more):
    """Starts a command and leaves it running."""
    return subprocess.Popen(
        [world.binary, *arguments(world, verb, KEY, *more)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL, cwd=world.directory, env=environment(ACCESS_KEY))


def kill(process):
    """Ends a command without a word."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def is_recorded(world, key=KEY):
    """True if there is a record in the working directory."""
    return os.path.exists(os.path.join(world.directory, f"ecskms-revocation-{key}.json"))


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


def at_a_terminal(world, verb, key, *more, **variables):
    """Runs to the end with a terminal as standard output; answers (exit code, what it shows)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [world.binary, *arguments(world, verb, key, *more, yes=False)], stdin=subprocess.DEVNULL, stdout=theirs,
        stderr=subprocess.DEVNULL, cwd=world.directory, env={**environment(ACCESS_KEY), **variables})
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed.
            break
        if not part:
            break
        shown += part
    os.close(ours)
    return process.wait(120), shown.decode()


@check
def a_terminal_gets_text_whatever_is_said_of_colours(world):
    for variables in ({}, {"NO_COLOR": "1"}):
        code, shown = at_a_terminal(world, "revoke", KEY, "--plan", **variables)
        expect(code == 0 and "To revoke it: ecskms revoke" in shown and '{"' not in shown, f"{variables}: {code} {shown}")


@check
def a_plan_that_failed_does_not_say_how_to_revoke(world):
    code, shown = at_a_terminal(world, "revoke", "key-hzz0000000000000000000", "--plan")
    expect(code == 3 and "KeyNotFound" in shown and "To revoke it" not in shown, f"{code} {shown}")


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
    _, output = run(world, "revoke", KEY, code=2)
    contains(output, "of a revocation that was restored", "--record")
    path = os.path.join(world.directory, f"ecskms-revocation-{KEY}.json")
    expect(os.stat(path).st_mode & 0o777 == 0o600, oct(os.stat(path).st_mode))
    expect(not [name for name in os.listdir(world.directory) if name.endswith((".lock", ".new"))], str(os.listdir(world.directory)))
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
        process = begin(world, "revoke")
        reached = ["DescribeKey"] if action == "DisableKey" else ["DisableKey"]
        until("it has begun", lambda: any(world.calls(each, mark) for each in reached) and is_recorded(world), 20)
        until("the prior state is recorded", lambda: "priorState" in record_of(world).get("status", {}), 20)
        kill(process)
        world.sim("DELETE", "faults")
        run(world, "revoke", KEY, code=0)
        record = record_of(world)
        expect((state(world), record["status"]["priorState"]["keyState"]) == ("Disabled", "Enabled"), f"{action} {when}")
        verify(record["metadata"]["uid"], record["status"]["journal"])
        run(world, "restore", KEY, code=0)
        expect(state(world) == "Enabled", f"{action} {when}: {state(world)}")
        forget(world)


@check
def a_declared_cut_without_its_record_is_restored(world):
    world.sim("PUT", "faults", [{"action": "DisableKey", "when": "after", "delayMs": 20000, "times": 1}])
    process = begin(world, "revoke", "--restore-to", "Enabled")
    until("the key is cut", lambda: state(world) == "Disabled", 20)
    kill(process)
    world.sim("DELETE", "faults")
    expect("priorState" not in record_of(world).get("status", {}), "the record was faster than the cut")
    _, output = run(world, "revoke", KEY, "--running-instances", "ForceStop", code=2)
    contains(output, "not recorded yet", "--running-instances")
    lines, _ = run(world, "restore", KEY, code=0)
    expect(state(world) == "Enabled", state(world))
    expect(any(entry.get("action") == "EnableKey" for entry in lines[:-1]), str(lines[:-1]))
    record = record_of(world)
    expect(record["status"]["priorState"]["keyState"] == "Enabled", str(record["status"]))
    verify(record["metadata"]["uid"], record["status"]["journal"])
    forget(world)


@check
def one_command_at_a_time_works_on_a_record(world):
    world.sim("PUT", "faults", [{"action": "DisableKey", "when": "after", "delayMs": 20000, "times": 1}])
    process = begin(world, "revoke")
    until("the key is cut", lambda: state(world) == "Disabled", 20)
    for verb in ("restore", "revoke"):
        _, output = run(world, verb, KEY, code=1)
        contains(output, "another command is working on it", "run this command again")
    expect(process.poll() is None and state(world) == "Disabled", "the first one goes on")
    kill(process)
    world.sim("DELETE", "faults")
    run(world, "restore", KEY, code=0)
    expect(state(world) == "Enabled", state(world))
    forget(world)


@check
def a_command_that_did_nothing_does_not_bind_the_corrected_one(world):
    for bad in (["--reason", "short"], ["--region", "nowhere"], ["--cloud-endpoint", "no address"], ["--requested-by", " "]):
        _, output = run(world, "revoke", KEY, *bad, code=2)
        contains(output, bad[0])
        expect(not is_recorded(world), f"{bad} left a record")
    for held, corrected in [
        (["--max-affected-instances", "0"], ["--max-affected-instances", "1000"]),
        (["--acknowledged-digest", "0" * 16], []),
        (["--region", "cn-beijing"], ["--reason", "said better this time"]),
    ]:
        run(world, "revoke", KEY, *held, "--timeout-seconds", "15", code=3)
        expect(state(world) == "Enabled" and is_recorded(world), f"{held}: {state(world)}")
        run(world, "revoke", KEY, *corrected, code=0)
        spec = record_of(world)["spec"]
        expect(state(world) == "Disabled" and spec["region"] == REGION and spec["restoreTo"] == "Recorded", str(spec))
        expect(spec["reason"] == (corrected[1] if "--reason" in corrected else WHY), str(spec))
        run(world, "restore", KEY, code=0)
        forget(world)
    # Whether a declared cut came is not known from its record, so it is kept.
    run(world, "revoke", KEY, "--region", "cn-beijing", "--restore-to", "Enabled", "--timeout-seconds", "15", code=3)
    _, output = run(world, "revoke", KEY, code=2)
    contains(output, "cn-beijing", REGION, "another file with --record")
    run(world, "revoke", KEY, "--record", "corrected.json", code=0)
    run(world, "restore", KEY, "--record", "corrected.json", code=0)
    forget(world)


@check
def a_record_that_did_something_is_raised_or_the_command_refused(world):
    run(world, "revoke", KEY, code=0)
    before = record_of(world)
    for flag, asked, recorded in [("--reason", "another reason than before", WHY), ("--restore-to", "Enabled", "Recorded"), ("--max-affected-instances", "3", "not set"), ("--region", "cn-beijing", REGION)]:
        _, output = run(world, "revoke", KEY, flag, asked, code=2)
        contains(output, flag, asked, recorded)
    _, output = run(world, "restore", KEY, "--reason", "short", code=2)
    contains(output, "--reason")
    _, output = run(world, "restore", KEY, "--region", "cn-beijing", code=2)
    contains(output, REGION)
    expect(record_of(world) == before and state(world) == "Disabled", "a refused command changes nothing")
    lines, _ = run(world, "revoke", KEY, "--running-instances", "ForceStop", code=0)
    asked_to_stop = [entry for entry in lines[:-1] if entry["action"] == "StopInstances"]
    expect(before["status"]["stillReadable"]["count"] > 0 and asked_to_stop, str(lines)[:1500])
    expect(record_of(world)["spec"]["runningInstances"] == "ForceStop", str(record_of(world)["spec"]))
    lines, _ = run(world, "revoke", KEY, code=0)
    expect(record_of(world)["spec"]["runningInstances"] == "ForceStop", "what is left out stays as it is")
    _, output = run(world, "revoke", KEY, "--running-instances", "Leave", code=2)
    contains(output, "--running-instances is Leave here and ForceStop there")
    run(world, "restore", KEY, code=0)
    expect(state(world) == "Enabled", state(world))
    forget(world)


@check
def bad_input_is_told_and_nothing_is_done(world):
    mark = world.mark()
    for key, words, code in [("key-of-nowhere", "key", 3), ("alias/acs/ecs", "service", 2), ("alias/ecskms-demo", "alias", 2)]:
        lines, output = run(world, "revoke", key, "--record", f"record-{len(key)}.json", "--timeout-seconds", "15", code=code)
        contains((lines[-1]["message"] if lines else output).lower(), words)
    _, output = run(world, "restore", KEY, code=2)
    contains(output, "there is no such file", "--record")
    with open(os.path.join(world.directory, "broken.json"), "w") as file:
        file.write("{}")
    for verb in ("revoke", "restore"):
        _, output = run(world, verb, KEY, "--record", "broken.json", code=2)
        contains(output, "not the record of a revocation")
        run(world, verb, KEY, "--record", "no-such-folder/record.json", code=2)
    _, output = run(world, "revoke", KEY, "--method", "DetachEcsRole", "--record", "role.json", code=2)
    contains(output, "--acknowledge-account-wide")
    expect(not os.path.exists(os.path.join(world.directory, "role.json")), "wrong arguments leave no record")
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
