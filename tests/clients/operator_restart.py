#!/usr/bin/env python3
"""The operator killed again and again while it creates, and an API server that stands still: operator_restart.py PATH-OF-ECSKMS [SEED].

In the end every object has exactly one resource. The seed is printed; the same seed kills after the same times.
"""
import random
import signal
import sys
import time

import servers
from servers import disk, expect, image, truth, until

DISKS, IMAGES, KILLS = 20, 3, 12


def names():
    return [("encrypteddisks", f"d-{number}") for number in range(DISKS)] + [("encryptedimages", f"i-{number}") for number in range(IMAGES)]


def not_ready(world):
    return [name for plural, name in names() if truth(world.get(plural, name), "Ready") != "True"]


def duplicates(world):
    """Objects that do not have exactly one resource, with what they have."""
    state = world.sim("GET", "state")
    wrong = {}
    for plural, name in names():
        collection = state["disks" if plural == "encrypteddisks" else "images"]
        owned = [each["id"] for each in collection.values() if each["tags"].get("ecskms:name") == name]
        if len(owned) != 1:
            wrong[name] = owned
    return wrong


def more_than_one_at_any_time(world):
    """Accepted creations by ClientToken: one for each object, however often it was sent."""
    tokens = {}
    for action in ("CreateDisk", "CopyImage"):
        for call in world.calls(action):
            if call["performed"]:
                tokens.setdefault(call["parameters"].get("DiskName") or call["parameters"].get("DestinationImageName"), set()).add(call["clientTokenHash"])
    return {name: seen for name, seen in tokens.items() if len(seen) > 1}


def killed_at_random_moments(world, chance):
    """New objects before every start, slow answers, and a kill in the middle of whatever is under way."""
    slow = [{"action": action, "when": when, "delayMs": 150} for action in ("CreateDisk", "CopyImage") for when in ("before", "after")]
    world.sim("PUT", "faults", slow)
    waiting = names()
    chance.shuffle(waiting)
    for _ in range(KILLS):
        for plural, name in waiting[:2]:
            world.create(disk(name) if plural == "encrypteddisks" else image(name, source=f"m-bp1kill{name[-1]}"))
        waiting = waiting[2:]
        process = world.start_operator_unready()
        time.sleep(chance.uniform(0.1, 1.0))
        expect(process.poll() is None, f"the operator ended by itself: {world.log(process)[-1000:]}")
        process.kill()
        process.wait()
    expect(not waiting, f"{waiting} were never created")
    open_claims = sum(1 for plural, name in names() if (world.get(plural, name).get("status") or {}).get("intent", {}).get("answered") == 0)
    print(f"  after {KILLS} kills {open_claims} of {len(names())} creations had no recorded answer")
    world.sim("DELETE", "faults")
    process = world.start_operator(20)
    until("everything is Ready", lambda: not not_ready(world), 180, 1)
    expect(not duplicates(world), f"duplicates: {duplicates(world)}")
    expect(not more_than_one_at_any_time(world), f"created twice: {more_than_one_at_any_time(world)}")
    return process


def stopped_api_server(world, api, process):
    """Twenty seconds without an answer, in the middle of work; then everything goes on by itself."""
    later = [f"late-{number}" for number in range(5)]
    for name in later[:3]:
        world.create(disk(name, source={"snapshotId": "s-bp1plain20g000000001"}, sizeGiB=None))
    api.send_signal(signal.SIGSTOP)
    try:
        time.sleep(20)
        expect(process.poll() is None, f"the operator ended with {process.returncode}")
    finally:
        api.send_signal(signal.SIGCONT)
    for name in later[3:]:
        world.create(disk(name))
    until("the late ones are Ready", lambda: all(truth(world.get("encrypteddisks", name), "Ready") == "True" for name in later), 90, 0.5)
    for name in later:
        expect(len(world.owned("disks", "default", name)) == 1, f"{name}: {world.owned('disks', 'default', name)}")


def dropped_watches_and_forgotten_versions(world):
    """Watches that break, answers 410 and refusals now and then do not stop the work."""
    servers.http("PUT", f"{world.api}/_kube/faults", {"seed": 3, "dropWatches": True, "compact": True, "rules": [
        {"agent": "", "verb": "patch", "probability": 0.3, "status": 503, "times": 20},
        {"agent": "", "verb": "list", "probability": 0.3, "status": 429, "retryAfterSeconds": 1, "times": 5},
        {"agent": "", "verb": "watch", "status": 500, "times": 3},
    ]})
    names_here = [f"after-{number}" for number in range(5)]
    for name in names_here:
        world.create(disk(name))
    until("they are Ready", lambda: all(truth(world.get("encrypteddisks", name), "Ready") == "True" for name in names_here), 120, 0.5)
    servers.http("PUT", f"{world.api}/_kube/faults", {"rules": []})
    for name in names_here:
        expect(len(world.owned("disks", "default", name)) == 1, name)


def two_leaders_make_no_second_resource(world):
    """Two operators without election on the same objects."""
    other = world.start_operator(20)
    doubled = [f"double-{number}" for number in range(10)]
    for name in doubled:
        world.create(disk(name))
    until("they are Ready", lambda: all(truth(world.get("encrypteddisks", name), "Ready") == "True" for name in doubled), 90, 0.5)
    for name in doubled:
        expect(len(world.owned("disks", "default", name)) == 1, f"{name}: {world.owned('disks', 'default', name)}")
    world.stop(other)


def election_hands_over(world):
    """One of two leads; when it is killed the other takes over, and a good end releases at once."""
    servers.http("POST", f"{world.api}/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ecskms-system"}})
    servers.http("POST", f"{world.api}/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elected"}})
    extra = ("--leader-elect", "--namespace", "elected", "--identity")
    first = world.start_operator_unready(*extra, "first")
    lease = f"{world.api}/apis/coordination.k8s.io/v1/namespaces/ecskms-system/leases/ecskms-leader"
    holder = lambda: servers.http("GET", lease)[1].get("spec", {}).get("holderIdentity")  # noqa: E731
    until("the first leads", lambda: holder() == "first", 20)
    second = world.start_operator_unready(*extra, "second")
    time.sleep(3)
    expect(holder() == "first", f"{holder()} leads")
    world.stop(first, signal.SIGTERM)
    until("the second leads soon after a good end", lambda: holder() == "second", 10)
    third = world.start_operator_unready(*extra, "third")
    second.kill()
    second.wait()
    until("the third leads after the lease has run out", lambda: holder() == "third", 30)
    body = disk("x")
    body["metadata"]["namespace"] = "elected"
    world.create(body)
    until("the third works", lambda: truth(world.get("encrypteddisks", "x", "elected"), "Ready") == "True", 20)
    world.stop(third)


class World(servers.Servers):
    """Servers with an operator that may not live long enough to become ready."""

    def start_operator_unready(self, *extra):
        environment = {**servers.ACCESS_KEY, "KUBECONFIG": self.kubeconfig}
        return self.start(
            "run", "--cloud-endpoint", self.cloud, "--metrics-addr", f"127.0.0.1:{servers.free_port()}", "--tempo", "20",
            "--health-addr", f"127.0.0.1:{servers.free_port()}", "--region", "cn-hangzhou", *extra, environment=environment)


def main():
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10_000)
    print(f"seed {seed}")
    checks = servers.Checks()
    with World() as world:
        api = world.start_api()
        world.start_cloud(20)
        world.install_crds()
        for number in range(IMAGES):
            world.change("create", "image", f"m-bp1kill{number}", sizeGib=20, dataSizesGib=[5])
        process = None

        def killed():
            nonlocal process
            process = killed_at_random_moments(world, random.Random(seed))
        checks.run("killed_at_random_moments", killed)
        process = process or world.start_operator(20)
        checks.run("stopped_api_server", stopped_api_server, world, api, process)
        checks.run("dropped_watches_and_forgotten_versions", dropped_watches_and_forgotten_versions, world)
        checks.run("two_leaders_make_no_second_resource", two_leaders_make_no_second_resource, world)
        checks.run("election_hands_over", election_hands_over, world)
    checks.end()


if __name__ == "__main__":
    main()
