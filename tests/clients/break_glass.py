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
import time

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
    """Runs to the end, with the exit code unless it is None; answers (JSON lines, whole output)."""
    done = subprocess.run(
        [world.binary, *arguments(world, verb, key, *more, yes=yes)], capture_output=True, text=True, timeout=120, cwd=world.directory,
        stdin=subprocess.DEVNULL, env=environment(ACCESS_KEY if credentials is None else credentials))
    expect(code in (None, done.returncode), f"{verb} {key} {more} ended with {done.returncode}: {done.stdout[-1500:]} {done.stderr[-1500:]}")
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


def at_a_terminal(world, *line, **variables):
    """Runs to the end with a terminal as standard output; answers (exit code, what it shows)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [world.binary, *line], stdin=subprocess.DEVNULL, stdout=theirs,
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


def typing(world, text, verb, *more, after=0):
    """Runs to the end with a terminal as standard input, at which the text is typed; answers (exit code, JSON lines, all it says)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [world.binary, *arguments(world, verb, KEY, *more, yes=False)], stdin=theirs, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=world.directory, env=environment(ACCESS_KEY))
    os.close(theirs)
    time.sleep(after)
    os.write(ours, text.encode())
    out, err = process.communicate(timeout=120)
    os.close(ours)
    return process.returncode, [json.loads(line) for line in out.splitlines() if line.startswith("{")], out + err


def journal(world, *more, code, text=None):
    """Runs `ecskms journal` to the end; answers (JSON lines, all it says)."""
    done = subprocess.run(
        [world.binary, "journal", *more], capture_output=True, text=True, timeout=60, cwd=world.directory, input=text or "",
        env=environment({}))
    expect(done.returncode == code, f"journal {more} ended with {done.returncode}: {done.stdout[-1500:]} {done.stderr[-1500:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")], done.stdout + done.stderr


def rewrite(world, change, key=KEY):
    """Changes the record in the working directory."""
    record = record_of(world, key)
    change(record)
    with open(os.path.join(world.directory, f"ecskms-revocation-{key}.json"), "w") as file:
        json.dump(record, file)


@check
def a_terminal_gets_text_whatever_is_said_of_colours(world):
    for variables in ({}, {"NO_COLOR": "1"}):
        code, shown = at_a_terminal(world, *arguments(world, "revoke", KEY, "--plan", yes=False), **variables)
        expect(code == 0 and "To revoke it: ecskms revoke" in shown and '{"' not in shown, f"{variables}: {code} {shown}")


@check
def a_plan_that_failed_does_not_say_how_to_revoke(world):
    code, shown = at_a_terminal(world, *arguments(world, "revoke", "key-hzz0000000000000000000", "--plan", yes=False))
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
def only_the_keys_id_typed_by_hand_confirms(world):
    for typed in ("\n", "\x04", "yes\n", KEY[:-1] + "\n", KEY.upper() + "\n"):
        code, _, said = typing(world, typed, "revoke")
        expect(code == 3 and "what was typed is not the key's id" in said, f"{typed!r}: {code} {said}")
        expect(state(world) == "Enabled" and not is_recorded(world), f"{typed!r}: {state(world)}")
    code, lines, said = typing(world, KEY + "\n", "revoke", after=4)
    expect(code == 0 and state(world) == "Disabled", f"{code} {said}")
    contains(said, "Type the key's id to go on", KEY, REGION, "of account 1234567890123456")
    took = lines[-1]["status"]["timings"]["timeToRevokeMs"]
    expect(took < 3000, f"the time to revoke includes the typing: {took} ms")
    code, _, said = typing(world, "no\n", "restore")
    expect(code == 3 and state(world) == "Disabled", f"{code} {said}")
    code, _, said = typing(world, KEY + "\n", "restore")
    expect(code == 0 and state(world) == "Enabled", f"{code} {said}")
    forget(world)


@check
def what_does_not_end_in_time_ends_with_one_and_goes_on(world):
    fault = [{"action": "DisableKey", "when": "before", "status": 503, "code": "ServiceUnavailable"}]
    world.sim("PUT", "faults", fault)
    lines, output = run(world, "revoke", KEY, "--timeout-seconds", "3", code=1)
    expect(lines[-1]["exitCode"] == 1 and state(world) == "Enabled", str(lines[-1])[:500])
    expect(output.count("ecskms: CloudUnavailable") == 1, f"a fault is told once: {output[-1500:]}")
    world.sim("DELETE", "faults")
    run(world, "revoke", KEY, code=0)
    expect(state(world) == "Disabled", state(world))
    # The success of before is no word of a command that cannot look.
    world.sim("PUT", "faults", [{"action": "DescribeKey", "when": "before", "status": 503, "code": "ServiceUnavailable"}])
    world.change("set", "key", KEY, state="Enabled")
    lines, _ = run(world, "revoke", KEY, "--timeout-seconds", "3", code=1)
    expect(lines[-1]["reason"] == "CloudUnavailable", str(lines[-1])[:500])
    world.sim("DELETE", "faults")
    run(world, "revoke", KEY, code=0)
    expect(state(world) == "Disabled", state(world))
    run(world, "restore", KEY, code=0)
    world.sim("PUT", "faults", [{"action": "DescribeKey", "when": "before", "status": 503, "code": "ServiceUnavailable"}])
    run(world, "restore", KEY, "--timeout-seconds", "3", code=1)
    world.sim("DELETE", "faults")
    forget(world)


@check
def a_record_is_of_one_account(world):
    second = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "pretend-second-key", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "pretend-second-key-secret"}
    role = ("--method", "DetachEcsRole", "--acknowledge-account-wide")
    def changes(mark):
        return [call["action"] for call in world.sim("GET", f"log?after={mark}") if call["action"].startswith(("Attach", "Detach", "Disable", "Enable"))]
    world.sim("PUT", "faults", [{"action": "GetCallerIdentity", "when": "before", "status": 503, "code": "ServiceUnavailable"}])
    mark = world.mark()
    _, output = run(world, "revoke", KEY, *role, "--restore-to", "Enabled", code=1)
    contains(output, "not known whose account", "STS")
    expect(not is_recorded(world) and changes(mark) == [], str(changes(mark)))
    # The id of a key is of one account only, so its cut does not wait for STS.
    run(world, "revoke", KEY, code=0)
    world.sim("DELETE", "faults")
    run(world, "restore", KEY, code=0)
    forget(world)
    lines, _ = run(world, "revoke", KEY, *role, code=0)
    expect(lines[-1]["status"]["accountId"] == "1234567890123456", str(lines[-1])[:500])
    mark = world.mark()
    for verb, more in (("revoke", role), ("restore", ())):
        _, output = run(world, verb, KEY, *more, code=2, credentials=second)
        contains(output, "of account 1234567890123456", "belong to account 2345678901234567")
    expect(changes(mark) == [], str(changes(mark)))
    code, _, said = typing(world, "no\n", "restore")
    contains(said, "EVERY customer key in EVERY region of account 1234567890123456")
    expect(code == 3, said)
    run(world, "restore", KEY, code=0)
    expect(changes(mark) == ["AttachPolicyToRole"], str(changes(mark)))
    forget(world)


@check
def a_restoration_that_failed_is_not_called_done(world):
    run(world, "revoke", KEY, code=0)
    lines, _ = run(world, "restore", KEY, code=3, credentials=servers.LIMITED_KEY)
    contains(lines[-1]["advice"], "deploy/ram/revocation.json")
    expect(state(world) == "Disabled", state(world))
    _, output = run(world, "revoke", KEY, code=2)
    contains(output, "its restoration was asked for and is not done", "Run ecskms restore with this record")
    run(world, "restore", KEY, code=0)
    expect(state(world) == "Enabled", state(world))
    _, output = run(world, "revoke", KEY, code=2)
    contains(output, "that was restored", "another file")
    forget(world)


@check
def a_record_that_cannot_be_written_ends_the_command(world):
    path = os.path.join(world.directory, f"ecskms-revocation-{KEY}.json")
    def blocked(*more, action, code):
        """Runs, and makes the record unwritable while the first call is under way."""
        world.sim("PUT", "faults", [{"action": action, "when": "after", "delayMs": 1000, "times": 1}])
        mark = world.mark()
        process = subprocess.Popen(
            [world.binary, *arguments(world, "revoke", KEY, *more)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            stdin=subprocess.DEVNULL, cwd=world.directory, env=environment(ACCESS_KEY))
        until("the call is under way", lambda: world.calls(action, mark), 20)
        os.mkdir(f"{path}.new")
        out, err = process.communicate(timeout=60)
        os.rmdir(f"{path}.new")
        world.sim("DELETE", "faults")
        expect(process.returncode == code, f"{process.returncode}: {out} {err}")
        contains(err, "cannot be written")
        return out, err
    _, err = blocked(action="DescribeKey", code=2)
    contains(err, "Nothing was done")
    expect(state(world) == "Enabled", state(world))
    out, err = blocked("--restore-to", "Enabled", action="DisableKey", code=1)
    contains(err, "may have been switched")
    entries = [json.loads(line) for line in out.splitlines()]
    expect(any(entry["action"] == "DisableKey" and entry["requestId"] for entry in entries), f"{out} {err}")
    run(world, "revoke", KEY, code=0)
    run(world, "restore", KEY, "--timeout-seconds", "5", code=None)
    expect(state(world) == "Enabled", state(world))
    forget(world)


@check
def a_cut_that_comes_late_is_undone(world):
    world.sim("PUT", "faults", [{"action": "DisableKey", "when": "before", "delayMs": 20000, "times": 1}])
    process = begin(world, "revoke")
    until("the prior state is recorded", lambda: is_recorded(world) and "priorState" in record_of(world).get("status", {}), 20)
    kill(process)
    world.sim("DELETE", "faults")
    world.change("set", "key", KEY, state="Enabled")
    process = subprocess.Popen(
        [world.binary, *arguments(world, "restore", KEY)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        stdin=subprocess.DEVNULL, cwd=world.directory, env=environment(ACCESS_KEY))
    until("the recorded state was seen", lambda: "restoredAt" in record_of(world)["status"]["timings"], 20)
    world.change("set", "key", KEY, state="Disabled")
    until("the late cut is undone", lambda: state(world) == "Enabled", 20)
    out, err = process.communicate(timeout=100)
    expect(process.returncode == 0, f"{process.returncode}: {out} {err}")
    contains(err, "the answer to a cut was never seen: it may arrive until")
    expect("closedAt" in record_of(world)["status"]["timings"], str(record_of(world)["status"]["timings"]))
    forget(world)


@check
def a_list_that_is_refused_is_not_waited_for(world):
    allowed = ["kms:*", "ecs:DescribeDisks", "ecs:DescribeInstances", "ecs:DescribeImages", "ecs:ListTagResources"]
    statement = {"Effect": "Allow", "Action": allowed, "Resource": "*"}
    before = world.sim("GET", "settings")["limitedPolicy"]
    world.sim("PUT", "settings", {"limitedPolicy": {"Version": "1", "Statement": [statement]}})
    lines, _ = run(world, "revoke", KEY, "--plan", "--timeout-seconds", "60", code=3, credentials=servers.LIMITED_KEY)
    expect(lines[-1]["reason"] == "InventoryIncomplete", str(lines[-1])[:800])
    contains(lines[-1]["advice"], "deploy/ram/read.json")
    expect(lines[-1]["status"]["blastRadius"]["disks"] > 0, "what could be listed is shown")
    lines, _ = run(world, "revoke", KEY, "--max-affected-instances", "100", "--timeout-seconds", "60", code=3, credentials=servers.LIMITED_KEY)
    contains(lines[-1]["advice"], "--max-affected-instances")
    expect(state(world) == "Enabled", state(world))
    forget(world)
    world.sim("PUT", "settings", {"limitedPolicy": before})


@check
def two_records_of_a_key_count_as_two(world):
    first, second = ("--record", "first.json"), ("--record", "second.json")
    for early, late in ((first, second), (second, first)):
        run(world, "revoke", KEY, *first, code=0)
        lines, output = run(world, "revoke", KEY, *second, code=0)
        contains(output, "the record first.json is of the same")
        prior = lines[-1]["status"]["priorState"]
        expect((prior["keyState"], prior["inheritedFrom"]) == ("Enabled", "first.json"), str(prior))
        lines, _ = run(world, "restore", KEY, *early, "--timeout-seconds", "60", code=3)
        expect(lines[-1]["reason"] == "OverlappingRevocation" and state(world) == "Disabled", str(lines[-1])[:500])
        contains(lines[-1]["message"], late[1])
        contains(lines[-1]["advice"], "--ignore-other-records")
        run(world, "restore", KEY, *late, code=0)
        expect(state(world) == "Enabled", state(world))
        run(world, "restore", KEY, *early, code=0)
        expect(state(world) == "Enabled", state(world))
        for name in ("first.json", "second.json"):
            os.remove(os.path.join(world.directory, name))
    run(world, "revoke", KEY, *first, code=0)
    run(world, "revoke", KEY, *second, code=0)
    run(world, "restore", KEY, *first, "--ignore-other-records", code=0)
    expect(state(world) == "Enabled", state(world))
    for name in ("first.json", "second.json"):
        os.remove(os.path.join(world.directory, name))


@check
def the_journal_of_a_record_is_verified(world):
    lines, output = run(world, "revoke", KEY, code=0)
    path = f"ecskms-revocation-{KEY}.json"
    printed, _ = journal(world, "-f", path, code=0)
    expect(printed[:-1] == record_of(world)["status"]["journal"] == lines[:-1], str(printed)[:800])
    expect(printed[-1]["whole"] is True and printed[-1]["uid"] == record_of(world)["metadata"]["uid"], str(printed[-1]))
    # What either command printed is as good as the record.
    for text in ("".join(json.dumps(line) + "\n" for line in each) for each in (lines, printed)):
        again, _ = journal(world, "-f", "-", code=0, text=text)
        expect(again[:-1] == printed[:-1], str(again)[:800])
    code, shown = at_a_terminal(world, "journal", "-f", path)
    expect(code == 0 and "REQUEST ID" in shown and "\x1b[32mwhole: entries 1 to" in shown, f"{code} {shown}")
    rewrite(world, lambda record: record["status"]["journal"][2].update(result="Forged\x1b[2J"))
    printed, said = journal(world, "-f", path, code=3)
    expect(printed[-1]["brokenAt"] == 3 and printed[-1]["whole"] is False, str(printed[-1]))
    contains(said, "entry 3: an entry was changed", "ActionTrail")
    code, shown = at_a_terminal(world, "journal", "-f", path, NO_COLOR="1")
    expect(code == 3 and "BROKEN: entry 3" in shown and "\x1b" not in shown, f"{code} {shown!r}")
    run(world, "restore", KEY, code=0)
    forget(world)


@check
def a_key_is_revoked_and_exactly_restored(world):
    lines, _ = run(world, "revoke", KEY, code=0)
    *entries, result = lines
    expect(state(world) == "Disabled", state(world))
    status = result["status"]
    expect(any(entry["action"] == "DisableKey" and entry["requestId"] for entry in entries), str(entries))
    expect(status["priorState"]["keyState"] == "Enabled" and status["timings"]["revokedAt"], str(status)[:800])
    expect(status["blastRadius"]["disks"] > 0 and status["blastRadius"]["complete"], str(status["blastRadius"])[:800])
    expect(any(each["result"] == "Pass" for each in status["verification"]), str(status["verification"]))
    record = record_of(world)
    verify(record["metadata"]["uid"], record["status"]["journal"])
    expect(entries == record["status"]["journal"], "what is printed is what is recorded")
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
    stopped = lines[-1]["status"]["stops"]["forced"]
    expect(stopped and set(stopped) <= set(running), f"{stopped} of {running}")
    expect(actions.index("StopInstances") < actions.index("DisableKey"), str(actions))
    def status_of(each):
        return world.sim("GET", "state")["instances"][each]["status"]
    until("they are stopped", lambda: all(status_of(each) == "Stopped" for each in stopped), 30)
    run(world, "restore", KEY, code=0)
    until("they run again", lambda: all(status_of(each) == "Running" for each in stopped), 30)
    expect(state(world) == "Enabled", state(world))
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
    # The answer to the last cut was never seen, so the restoration looks on for a minute.
    run(world, "restore", KEY, "--timeout-seconds", "3", code=1)
    expect(state(world) == "Enabled", state(world))
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
        # Where the answer to the cut was never seen, the restoration looks on for a minute, and has not ended by then.
        run(world, "restore", KEY, "--timeout-seconds", "3", code=None)
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
    lines, _ = run(world, "restore", KEY, "--timeout-seconds", "5", code=1)
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
    run(world, "restore", KEY, "--timeout-seconds", "5", code=1)
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
    expect(not any(world.calls(action, mark) for action in ("DisableKey", "DetachPolicyFromRole")), "bad input cut something")
    lines, _ = run(world, "revoke", KEY, "--record", "limited.json", "--timeout-seconds", "15", code=3, credentials=servers.LIMITED_KEY)
    contains(lines[-1]["message"], "kms:D")
    os.remove(os.path.join(world.directory, "limited.json"))
    expect(world.calls("DetachPolicyFromRole", mark) == [], "no grant was taken")
    expect(state(world) == "Enabled", state(world))


@check
def a_record_that_was_tampered_with_is_noticed(world):
    run(world, "revoke", KEY, code=0)
    rewrite(world, lambda record: record["status"]["journal"][0].update(result="Forged"))
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
