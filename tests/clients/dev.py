#!/usr/bin/env python3
"""`ecskms dev` as a newcomer meets it, and how commands end: dev.py PATH-OF-ECSKMS.

What the operator does in detail is in operator_work.py; here it is the one process, its output and its exit codes.
"""
import json
import os
import signal
import socket
import subprocess
import time

import servers
from servers import condition, contains, disk, expect, image, truth, until

KEY = "key-hzz65f0a1b2c3d4e5f6a7b8"
SECOND_ACCOUNT = "2345678901234567"
CHECKS = []


def check(function):
    """Registers a check under its name."""
    CHECKS.append(function)
    return function


def write(world, name, *objects):
    """A manifest file (JSON documents are YAML)."""
    path = os.path.join(world.directory, name)
    with open(path, "w") as file:
        file.write("\n---\n".join(each if isinstance(each, str) else json.dumps(each) for each in objects))
    return path


def run(world, *arguments, code, seconds=120):
    """Runs a command to its end in the directory; raises unless it ends with the code."""
    done = subprocess.run(
        [world.binary, *arguments], capture_output=True, text=True, timeout=seconds, cwd=world.directory, stdin=subprocess.DEVNULL)
    output = done.stdout + done.stderr
    expect(done.returncode == code, f"{arguments} ended with {done.returncode}: {output[-1500:]}")
    return output


@check
def once_ends_well_with_the_samples(world):
    shown = run(world, "dev", "--once", "--time-scale", "60", code=0)
    contains(shown, "encrypted  EncryptedImage/", "encrypted  EncryptedDisk/", "ready      CloudAccount/second  2345678901234567", "ready      EncryptionAudit/account  ", "promises hold", "cargo run -- dev")
    expect("not ready" not in shown, shown)


@check
def once_tells_what_does_not_hold(world):
    path = write(world, "mixed.yaml", disk("good"), image("unborn", source="m-bp1none"))
    shown = run(world, "dev", "--once", "--time-scale", "60", "-f", path, code=1)
    contains(shown, "encrypted  EncryptedDisk/good", "not ready  EncryptedImage/unborn  SourceNotFound", "1 of 2 promises hold")


@check
def once_gives_up_after_its_time(world):
    path = write(world, "slow.yaml", image("slow", source="m-bp1web40g00000000001"))
    began = time.monotonic()
    shown = run(world, "dev", "--once", "--time-scale", "1", "--timeout", "3", "-f", path, code=1)
    contains(shown, "EncryptedImage/slow", "0 of 1 promises hold")
    expect(time.monotonic() - began < 20, "it took too long")


@check
def manifests_that_cannot_be_applied_are_refused_before_anything_starts(world):
    foreign = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n"
    for name, content, words in [
        ("foreign.yaml", foreign, "Deployment of apps/v1 is nothing that this command applies"),
        ("headless.yaml", "kind: EncryptedDisk\n", "apiVersion, kind and metadata.name are needed"),
        ("broken.yaml", "{", "It must be YAML or JSON"),
        ("empty.yaml", "", "no object of ecskms.dev was given"),
        ("binary.yaml", "\x00\x01", "binary.yaml"),
        ("version.yaml", json.dumps({**disk("a"), "apiVersion": "ecskms.dev/v9"}), "ecskms.dev/v9"),
    ]:
        shown = run(world, "dev", "--once", "-f", write(world, name, content), code=1)
        contains(shown, name if name != "empty.yaml" else "nothing to do", words)
    contains(run(world, "dev", "--once", "-f", "nowhere.yaml", code=1), "cannot read nowhere.yaml")


@check
def manifests_that_the_api_refuses_are_told(world):
    both = write(world, "both.yaml", disk("both", key={"id": "key-a", "service": True}))
    contains(run(world, "dev", "--once", "-f", both, code=1), "both.yaml", "exactly one of id, alias and service must be set")
    typo = write(world, "typo.yaml", disk("typo", colour="red"))
    contains(run(world, "dev", "--once", "-f", typo, code=1), "typo.yaml", "colour")


@check
def a_port_in_use_is_told_with_the_way_out(world):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = f"127.0.0.1:{busy.getsockname()[1]}"
        for arguments, flag in [
            (("dev", "--listen", taken), "--listen"),
            (("dev", "--cloud-listen", taken), "--cloud-listen"),
            (("sim", "--listen", taken), "--listen"),
            (("apiserver", "--listen", taken), "--listen"),
        ]:
            contains(run(world, *arguments, code=1, seconds=20), "cannot listen on", taken, flag)


@check
def only_loopback_is_served(world):
    for arguments in [("dev", "--listen", "0.0.0.0:0"), ("dev", "--cloud-listen", "0.0.0.0:0"), ("apiserver", "--listen", "0.0.0.0:0")]:
        contains(run(world, *arguments, code=1, seconds=20), "loopback")


@check
def wrong_arguments_are_told(world):
    contains(run(world, "dev", "--no-such-flag", code=2), "--no-such-flag")
    contains(run(world, "dev", "--time-scale", "0", code=1), "must be a positive number")
    contains(run(world, "--help", code=0), "Encrypts Alibaba Cloud workloads", "dev")
    contains(run(world, "--version", code=0), "ecskms 0.")
    assumptions = run(world, "sim", "--assumptions", code=0)
    expect(len(assumptions.splitlines()) > 20, "the assumptions")
    environment = {key: value for key, value in os.environ.items() if key not in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")}
    done = subprocess.run([world.binary, "run"], capture_output=True, text=True, timeout=30, env={**environment, "HOME": world.directory})
    expect(done.returncode == 1, f"run without a cluster ended with {done.returncode}")
    contains(done.stdout + done.stderr, "no cluster", "KUBECONFIG")


def serve(world):
    """`ecskms dev` with the samples, until all of them are Ready."""
    api, cloud = servers.free_port(), servers.free_port()
    process = world.start(
        "dev", "--listen", f"127.0.0.1:{api}", "--cloud-listen", f"127.0.0.1:{cloud}", "--kubeconfig", world.kubeconfig, "--time-scale", "60")
    world.api, world.cloud = f"http://127.0.0.1:{api}", f"http://127.0.0.1:{cloud}"
    until("it serves", lambda: "Serving until Ctrl-C" in world.log(process), 90)
    return process


def everything(world):
    """Every object of ours, with its plural."""
    for plural in ("encryptedimages", "encrypteddisks"):
        _, listed = servers.http("GET", f"{world.api}/apis/ecskms.dev/v1alpha1/{plural}")
        for found in listed["items"]:
            yield plural, found


@check
def samples_become_ready_and_are_what_they_say(world, _):
    contains(world.kubectl("wait", "--for=condition=Ready", "eimg,edisk", "--all", "-A", "--timeout=30s"), "condition met")
    state = world.sim("GET", "state")
    count = 0
    for plural, found in everything(world):
        meta, status = found["metadata"], found["status"]
        if "adopt" in found["spec"]:
            continue
        if "accountRef" in found["spec"]:
            there = world.sim("GET", f"state?account={SECOND_ACCOUNT}")["disks"].get(status["diskId"])
            expect(there and there["keyId"] == status["keyId"], f"{meta['name']} is in the second account: {there}")
            expect(status["diskId"] not in state["disks"], f"{meta['name']} is not in the first account")
            continue
        collection, field = ("images", "imageId") if plural == "encryptedimages" else ("disks", "diskId")
        made = world.owned(collection, meta["namespace"], meta["name"])
        expect([each["id"] for each in made] == [status[field]], f"{meta['name']} has {[each['id'] for each in made]}")
        parts = made if collection == "disks" else [state["snapshots"][mapping["snapshotId"]] for mapping in made[0]["mappings"]]
        expect(all(part["encrypted"] and part["keyId"] == status["keyId"] for part in parts), f"{meta['name']}: {parts}")
        count += 1
    expect(count >= 5, f"only {count} samples")


@check
def kubectl_shows_what_happened(world, _):
    listed = world.kubectl("get", "ecskms", "-A")
    contains(listed, "Available", "True", "encryptedimage.ecskms.dev/", "encrypteddisk.ecskms.dev/")
    _, found = next(everything(world))
    name, namespace = found["metadata"]["name"], found["metadata"]["namespace"]
    contains(world.kubectl("describe", "eimg", name, "-n", namespace), "Type:", "Ready", "Available", "Events:")


@check
def a_new_object_is_made_and_deleted_with_its_resource(world, _):
    contains(world.kubectl("apply", "-f", "-", input=json.dumps(disk("mine", deletionPolicy="Delete"))), "created")
    contains(world.kubectl("wait", "--for=condition=Ready", "edisk/mine", "--timeout=30s"), "condition met")
    expect(len(world.owned("disks", "default", "mine")) == 1, "one disk")
    contains(world.kubectl("delete", "edisk", "mine", "--timeout=30s"), "deleted")
    expect(world.owned("disks", "default", "mine") == [], "the disk is gone")


@check
def a_key_disabled_behind_the_operators_back_is_seen_within_a_round(world, _):
    world.change("set", "key", KEY, state="Disabled")
    hit = [(plural, found["metadata"]) for plural, found in everything(world) if found["status"]["keyId"] == KEY]
    expect(hit, "some samples are under the key")

    def seen():
        objects = [world.get(plural, meta["name"], meta["namespace"]) for plural, meta in hit]
        return all((truth(each, "KeyUsable"), truth(each, "Ready"), condition(each, "Ready")["reason"]) == ("False", "False", "KeyDisabled") for each in objects)
    try:
        until("all objects under the key tell it", seen, 20)
    finally:
        world.change("set", "key", KEY, state="Enabled")
    contains(world.kubectl("wait", "--for=condition=Ready", "eimg,edisk", "--all", "-A", "--timeout=30s"), "condition met")


@check
def interrupting_ends_it_well(world, process):
    expect(world.stop(process, signal.SIGINT) == 0, f"exit code {process.returncode}")


@check
def what_was_kept_is_there_again(world):
    data, path = os.path.join(world.directory, "data"), write(world, "kept.yaml", disk("kept"))
    arguments = ("--once", "--data", data, "--time-scale", "60", "-f", path)
    run(world, "dev", *arguments, code=0)
    # Its resource too: objects whose cloud is gone would all say so.
    shown = run(world, "dev", *arguments, code=0)
    contains(shown, "encrypted  EncryptedDisk/kept")
    world.start_api(data=os.path.join(data, "kubernetes"))
    found = world.get("encrypteddisks", "kept")
    expect(truth(found, "Ready") == "True", "the object and its status")
    with open(os.path.join(data, "cloud.json")) as file:
        disks = json.load(file)["first"]["world"]["disks"]
    own = [disk["id"] for disk in disks.values() if disk["tags"].get("ecskms:name") == "kept"]
    expect(own == [found["status"]["diskId"]], f"one disk and the same one: {own}")


def main():
    servers.need_kubectl()
    checks = servers.Checks()
    with servers.Servers() as world:
        process = None
        for function in CHECKS:
            if function.__code__.co_argcount == 1:
                checks.run(function.__name__, function, world)
                continue
            if process is None:
                try:
                    process = serve(world)
                except Exception as error:
                    checks.run("dev_serves", lambda error=error: expect(False, str(error)))
                    break
            checks.run(function.__name__, function, world, process)
    checks.end()


if __name__ == "__main__":
    main()
