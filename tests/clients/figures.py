#!/usr/bin/env python3
"""What an object costs, from create to Ready: figures.py PATH-OF-ECSKMS [DISKS].

Cloud calls by the request log of the simulated cloud, writes by the statistics of the embedded API server, memory by the kernel.
Fails where a figure is over the floor that the project has set itself; the rest is printed for the record.
"""
import sys
import time

import servers
from servers import disk, expect, image, instance, truth, until

DISKS_MANY = 1000
WRITES_PER_DISK_MAX = 3  # finalizer, intent, Ready; Events would count
WRITES_PER_IMAGE_MAX = 14  # the same, and one for each ten percent of progress
ROUND_SECONDS = 10  # an object at rest is looked at again after 600 s, sixty times faster here
WRITES_PER_INSTANCE_MAX = 4  # finalizer, intent, first sight, Ready
INSTANCES_MANY = 100
WRITING = ("create", "update", "patch", "apply", "delete", "deletecollection")


def agent_writes(world):
    """Writes of everybody but this script, by resource and subresource; and how many changed nothing."""
    _, stats = servers.http("GET", f"{world.api}/_kube/stats")
    written, unchanged = {}, 0
    for each in stats["requests"]:
        if each["verb"] in WRITING and not each["agent"].startswith("Python-urllib"):
            key = each["resource"] + ("/" + each["subresource"] if each["subresource"] else "")
            written[key] = written.get(key, 0) + each["requests"] - each["refused"]
            unchanged += each["unchanged"]
    return written, unchanged


def memory_mebibytes(process):
    """Resident memory now."""
    with open(f"/proc/{process.pid}/status") as file:
        line = next(line for line in file if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def cost(world, plural, names, create, seconds):
    """Creates the objects, waits until all are Ready, and answers seconds, cloud calls by action, and writes by resource."""
    mark, (before, unchanged_before), began = world.mark(), agent_writes(world), time.monotonic()
    for name in names:
        world.create(create(name))

    def all_ready():
        _, listed = servers.http("GET", world.url(plural))
        ready = [each for each in listed["items"] if each["metadata"]["name"] in wanted and truth(each, "Ready") == "True"]
        return len(ready) == len(names)
    wanted = set(names)
    until(f"{len(names)} {plural} are Ready", all_ready, seconds, 0.5)
    took = time.monotonic() - began
    time.sleep(1)  # Events are written after the status
    after, unchanged = agent_writes(world)
    calls = {}
    for entry in world.sim("GET", f"log?after={mark}"):
        calls[f"{entry['service']}:{entry['action']}"] = calls.get(f"{entry['service']}:{entry['action']}", 0) + 1
    written = {key: count - before.get(key, 0) for key, count in after.items() if count != before.get(key, 0)}
    return took, calls, written, unchanged - unchanged_before


def tell(title, count, took, calls, written, unchanged):
    """One block of the report."""
    print(f"{title}: {took:.1f} s")
    print(f"  cloud calls per object: {sum(calls.values()) / count:.2f}  {dict(sorted(calls.items()))}")
    print(f"  API writes per object: {sum(written.values()) / count:.2f}  {dict(sorted(written.items()))}; {unchanged} changed nothing", flush=True)


def own_writes(written, plural):
    """Writes to the objects and Events about them; only the lease of the election is not counted."""
    return sum(count for key, count in written.items() if key.startswith((f"{plural}.ecskms.dev", "events")))


def one_disk(world):
    took, calls, written, unchanged = cost(world, "encrypteddisks", ["alone"], disk, 30)
    tell("one disk", 1, took, calls, written, unchanged)
    expect(own_writes(written, "encrypteddisks") <= WRITES_PER_DISK_MAX, f"{written}")
    expect(unchanged == 0, f"{unchanged} writes changed nothing")


def one_image(world):
    took, calls, written, unchanged = cost(world, "encryptedimages", ["alone"], lambda name: image(name, source="m-bp1web40g00000000001"), 60)
    tell("one image", 1, took, calls, written, unchanged)
    expect(own_writes(written, "encryptedimages") <= WRITES_PER_IMAGE_MAX, f"{written}")
    expect(unchanged == 0, f"{unchanged} writes changed nothing")


def many_disks(world, process, count):
    names = [f"many-{number:04}" for number in range(count)]
    took, calls, written, unchanged = cost(world, "encrypteddisks", names, disk, 600)
    tell(f"{count} disks", count, took, calls, written, unchanged)
    print(f"memory at {count} disks Ready: {memory_mebibytes(process):.0f} MiB")
    expect(own_writes(written, "encrypteddisks") <= WRITES_PER_DISK_MAX * count, f"{written}")
    expect(unchanged == 0, f"{unchanged} writes changed nothing")
    tokens = [call["clientTokenHash"] for call in world.calls("CreateDisk") if call["performed"]]
    expect(len(set(tokens)) == len(tokens), "a disk was asked for twice")


def one_instance(world):
    took, calls, written, unchanged = cost(world, "encryptedinstances", ["alone"], instance, 60)
    tell("one instance with three disks", 1, took, calls, written, unchanged)
    expect(own_writes(written, "encryptedinstances") <= WRITES_PER_INSTANCE_MAX, f"{written}")
    expect(calls["ecs:RunInstances"] == 1 and unchanged == 0, f"{calls}, {unchanged} writes changed nothing")


def many_instances(world, count):
    names = [f"machine-{number:04}" for number in range(count)]
    took, calls, written, unchanged = cost(world, "encryptedinstances", names, instance, 120)
    tell(f"{count} instances with three disks each", count, took, calls, written, unchanged)
    expect(own_writes(written, "encryptedinstances") <= WRITES_PER_INSTANCE_MAX * count, f"{written}")
    expect(calls["ecs:RunInstances"] == count and unchanged == 0, f"{calls}, {unchanged} writes changed nothing")
    mark = world.mark()
    time.sleep(2 * ROUND_SECONDS)
    log = [f"{entry['service']}:{entry['action']}" for entry in world.sim("GET", f"log?after={mark}")]
    rest = {action: log.count(action) for action in set(log)}
    print(f"  cloud calls in two rounds at rest, all kinds: {dict(sorted(rest.items()))}")


def rest_costs_no_write(world):
    """Two rounds over objects at rest."""
    mark, (before, _) = world.mark(), agent_writes(world)
    time.sleep(2 * ROUND_SECONDS)
    after, _ = agent_writes(world)
    expect(after == before, f"before {before}, after {after}")
    calls = [entry for entry in world.sim("GET", f"log?after={mark}")]
    objects = len(servers.http("GET", world.url("encrypteddisks"))[1]["items"]) + INSTANCES_MANY
    print(f"cloud calls in two rounds over {objects} disks and an image at rest: {len(calls)}")
    expect(calls, "nothing was looked at")
    expect(len(calls) < 3 * objects + 60, f"{len(calls)} calls for {objects} objects")


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else DISKS_MANY
    checks = servers.Checks()
    with servers.Servers() as world:
        world.start_api()
        world.start_cloud(60)
        world.install_crds()
        world.sim("PUT", "settings", {"quotas": {"CreateDisk": 100000, "DescribeDisks": 100000}, "kmsReadsPerSecond": 1000})
        process = world.start_operator(60)
        print(f"memory with no objects: {memory_mebibytes(process):.0f} MiB")
        checks.run("one_disk", one_disk, world)
        checks.run("one_image", one_image, world)
        checks.run("one_instance", one_instance, world)
        checks.run(f"{INSTANCES_MANY}_instances", many_instances, world, INSTANCES_MANY)
        checks.run(f"{count}_disks", many_disks, world, process, count)
        checks.run("rest_costs_no_write", rest_costs_no_write, world)
    checks.end()


if __name__ == "__main__":
    main()
