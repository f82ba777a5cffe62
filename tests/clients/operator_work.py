#!/usr/bin/env python3
"""The operator's normal work, seen from both sides: operator_work.py PATH-OF-ECSKMS.

`ecskms run` between `ecskms apiserver` and `ecskms sim`, sixty times faster than real. What must never happen is looked for in the cloud
itself, not in what the operator says.
"""
import random
import time

import servers
from servers import condition, contains, disk, expect, image, truth, until

KEY = "key-hzz65f0a1b2c3d4e5f6a7b8"
SECOND_KEY = "key-hzz65f0a1b2c3d4e5f6a7c9"
SERVICE_KEY = "9d1e7f42-6c8b-4a35-b0d1-e2f3a4b5c6d7"
CHECKS = []


def check(function):
    """Registers a check under its name."""
    CHECKS.append(function)
    return function


def one(world, collection, name):
    """The only resource of an object; raises if there is none or more than one."""
    found = world.owned(collection, "default", name)
    expect(len(found) == 1, f"{name} has {len(found)} resources: {[each['id'] for each in found]}")
    return found[0]


@check
def a_blank_disk_is_encrypted_under_exactly_its_key(world):
    world.create(disk("blank", key={"id": SECOND_KEY}, performanceLevel="PL0", tags={"team": "a"}, diskName="orders-data"))
    found = world.until_ready("encrypteddisks", "blank")
    made = one(world, "disks", "blank")
    expect((made["encrypted"], made["keyId"], made["sizeGib"]) == (True, SECOND_KEY, 20), str(made))
    expect((made["performanceLevel"], made["name"], made["tags"]["team"]) == ("PL0", "orders-data", "a"), str(made))
    expect(found["status"]["diskId"] == made["id"] and found["status"]["keyId"] == SECOND_KEY, str(found["status"]))
    expect([truth(found, each) for each in ("Encrypted", "KeyUsable", "Revocable")] == ["True"] * 3, str(found["status"]))
    expect(found["status"]["observedGeneration"] == found["metadata"]["generation"], "observedGeneration")
    expect(not any(call["parameters"].get("InstanceId") for call in world.calls("CreateDisk")), "InstanceId would drop the key")


@check
def a_disk_from_a_snapshot_has_its_size_and_the_service_key_is_not_revocable(world):
    world.create(disk("restored", sizeGiB=None, source={"snapshotId": "s-bp1plain20g000000001"}, key={"service": True}))
    found = world.until_ready("encrypteddisks", "restored")
    made = one(world, "disks", "restored")
    expect((made["encrypted"], made["keyId"], made["sizeGib"]) == (True, SERVICE_KEY, 20), str(made))
    expect(made["sourceSnapshotId"] == "s-bp1plain20g000000001", str(made))
    expect(condition(found, "Revocable")["reason"] == "ServiceKey" and truth(found, "Revocable") == "False", str(found["status"]))


@check
def an_image_is_copied_and_every_snapshot_behind_it_is_encrypted(world):
    world.create(image("web", source="m-bp1web40g00000000001"))
    found = world.until_ready("encryptedimages", "web")
    made = one(world, "images", "web")
    snapshots = world.sim("GET", "state")["snapshots"]
    behind = [snapshots[mapping["snapshotId"]] for mapping in made["mappings"]]
    expect(len(behind) == 2 and all((each["encrypted"], each["keyId"]) == (True, KEY) for each in behind), str(behind))
    told = {each["id"] for each in found["status"]["snapshots"]}
    expect(told == {each["id"] for each in behind}, f"{told} in status")
    expect(found["status"]["progress"] == 100 and found["status"]["imageState"] == "Available", str(found["status"]))


@check
def an_alias_is_resolved_once(world):
    world.change("create", "alias", "alias/moving", keyId=KEY)
    world.create(disk("pinned", key={"alias": "alias/moving"}))
    world.until_ready("encrypteddisks", "pinned")
    world.change("set", "alias", "alias/moving", keyId=SECOND_KEY)
    ask(world, "encrypteddisks", "pinned")
    found = world.until_ready("encrypteddisks", "pinned")
    expect(found["status"]["keyId"] == KEY and truth(found, "Encrypted") == "True", str(found["status"]))
    one(world, "disks", "pinned")


def ask(world, plural, name):
    """Asks for a look at once, and waits until it has been taken."""
    value = str(random.random())
    patch = {"metadata": {"annotations": {"ecskms.dev/reconcile-requested-at": value}}}
    code, answer = servers.http("PATCH", world.url(plural, name), patch, "application/merge-patch+json")
    expect(code == 200, str(answer))
    until("the look is echoed", lambda: world.get(plural, name)["status"].get("lastHandledReconcileAt") == value, 20)


@check
def a_disk_grows_and_nothing_else_happens_to_it(world):
    world.create(disk("growing"))
    before = world.until_ready("encrypteddisks", "growing")["status"]["diskId"]
    code, _ = servers.http("PATCH", world.url("encrypteddisks", "growing"), {"spec": {"sizeGiB": 64}}, "application/merge-patch+json")
    expect(code == 200, "the patch")
    until("the disk has grown", lambda: one(world, "disks", "growing")["sizeGib"] == 64, 20)
    until("status tells the size", lambda: world.get("encrypteddisks", "growing")["status"]["sizeGiB"] == 64, 20)
    expect(world.until_ready("encrypteddisks", "growing")["status"]["diskId"] == before, "the same disk")


@check
def deletion_follows_the_policy(world):
    world.create(disk("kept"))
    world.create(disk("dropped", deletionPolicy="Delete"))
    world.create(image("dropped", deletionPolicy="Delete", snapshotPolicy="Delete"))
    for name in ("kept", "dropped"):
        world.until_ready("encrypteddisks", name)
    behind = [each["id"] for each in world.until_ready("encryptedimages", "dropped")["status"]["snapshots"]]
    for plural, name in [("encrypteddisks", "kept"), ("encrypteddisks", "dropped"), ("encryptedimages", "dropped")]:
        world.delete(plural, name)
        world.until_gone(plural, name)
    one(world, "disks", "kept")
    expect(world.owned("disks", "default", "dropped") == [], "the disk is deleted")
    expect(world.owned("images", "default", "dropped") == [], "the image is deleted")
    left = set(behind) & set(world.sim("GET", "state")["snapshots"])
    expect(not left, f"snapshots {left} are left")


@check
def a_disk_in_use_is_not_deleted(world):
    world.create(disk("used", deletionPolicy="Delete"))
    identifier = world.until_ready("encrypteddisks", "used")["status"]["diskId"]
    world.change("set", "disk", identifier, status="In_use", instanceId="i-bp1db0000000000000b2")
    world.delete("encrypteddisks", "used")
    contains(world.until_reason("encrypteddisks", "used", "InUse"), identifier, "in use")
    one(world, "disks", "used")
    world.change("set", "disk", identifier, status="Available", instanceId=None)
    world.until_gone("encrypteddisks", "used")
    expect(world.owned("disks", "default", "used") == [], "deleted once it is free")


@check
def what_was_retained_is_adopted_and_never_made_again(world):
    world.create(disk("phoenix"))
    identifier = world.until_ready("encrypteddisks", "phoenix")["status"]["diskId"]
    world.delete("encrypteddisks", "phoenix")
    world.until_gone("encrypteddisks", "phoenix")
    world.create(disk("phoenix"))
    contains(world.until_reason("encrypteddisks", "phoenix", "AdoptionMismatch"), identifier, "spec.adopt")
    one(world, "disks", "phoenix")
    world.delete("encrypteddisks", "phoenix")
    world.until_gone("encrypteddisks", "phoenix")
    world.create(disk("phoenix", adopt={"externalId": identifier}, deletionPolicy="Delete"))
    expect(world.until_ready("encrypteddisks", "phoenix")["status"]["diskId"] == identifier, "adopted")
    world.delete("encrypteddisks", "phoenix")
    world.until_gone("encrypteddisks", "phoenix")
    one(world, "disks", "phoenix")


@check
def a_disk_that_is_gone_is_not_made_again(world):
    world.create(disk("stolen"))
    identifier = world.until_ready("encrypteddisks", "stolen")["status"]["diskId"]
    world.change("delete", "disk", identifier)
    contains(world.until_reason("encrypteddisks", "stolen", "ExternalGone"), identifier)
    expect(world.owned("disks", "default", "stolen") == [], "no second disk")


@check
def a_key_that_is_disabled_is_seen_within_a_round_and_heals(world):
    world.create(disk("locked", key={"id": SECOND_KEY}))
    world.until_ready("encrypteddisks", "locked")
    world.change("set", "key", SECOND_KEY, state="Disabled")
    try:
        contains(world.until_reason("encrypteddisks", "locked", "KeyDisabled", 20), SECOND_KEY, "Enable it in KMS")
        found = world.get("encrypteddisks", "locked")
        expect((truth(found, "Ready"), truth(found, "KeyUsable"), truth(found, "Stalled")) == ("False", "False", "True"), str(found["status"]))
    finally:
        world.change("set", "key", SECOND_KEY, state="Enabled")
    found = world.until_ready("encrypteddisks", "locked", 20)
    expect(truth(found, "KeyUsable") == "True" and truth(found, "Stalled") is None, str(found["status"]))


@check
def a_suspended_object_rests_and_wakes(world):
    mark = world.mark()
    world.create(disk("sleeping", suspend=True))
    world.until_reason("encrypteddisks", "sleeping", "Suspended")
    expect(not world.calls("CreateDisk", mark), "nothing was created")
    servers.http("PATCH", world.url("encrypteddisks", "sleeping"), {"spec": {"suspend": False}}, "application/merge-patch+json")
    world.until_ready("encrypteddisks", "sleeping")


@check
def a_lost_answer_makes_one_resource(world):
    for number, fault in enumerate([
        {"when": "after", "dropConnection": True},
        {"when": "before", "dropConnection": True},
        {"when": "after", "status": 500},
        {"when": "after", "body": "html"},
        {"when": "after", "body": "truncated"},
        {"when": "before", "status": 503, "body": "html"},
    ]):
        world.sim("PUT", "faults", [{"action": "CreateDisk", "times": 1, **fault}, {"action": "CopyImage", "times": 1, **fault}])
        world.create(disk(f"lost-{number}"))
        world.create(image(f"lost-{number}", key={"id": KEY}))
        world.until_ready("encrypteddisks", f"lost-{number}")
        world.until_ready("encryptedimages", f"lost-{number}")
        one(world, "disks", f"lost-{number}")
        one(world, "images", f"lost-{number}")
        struck = [each["struck"] for each in world.sim("GET", "faults")]
        expect(struck == [1, 1], f"the faults struck {struck}")
    world.sim("DELETE", "faults")


@check
def throttling_is_waited_out(world):
    world.sim("PUT", "faults", [{"action": "CreateDisk", "status": 400, "code": "Throttling.User", "times": 1}])
    world.create(disk("patient"))
    found = world.until_ready("encrypteddisks", "patient", 90)
    world.sim("DELETE", "faults")
    expect("lastError" not in found["status"], str(found["status"]))
    one(world, "disks", "patient")


@check
def copies_queue_up_to_five_in_a_region_and_one_of_a_source(world):
    world.sim("PUT", "clock", {"scale": 15})
    names = [f"queued-{number}" for number in range(8)]
    sources = [world.change("create", "image", f"m-bp1queue{number:02}", sizeGib=20)["id"] for number in range(7)]
    sources.append(sources[0])
    for name, source in zip(names, sources):
        world.create(image(name, source=source))
    running_max, same_max, queued = 0, 0, set()

    def all_ready():
        nonlocal running_max, same_max
        jobs = [each["copy"] for each in world.sim("GET", "state")["images"].values() if each["copy"] and each["status"] in ("Creating", "Waiting")]
        running_max = max(running_max, len(jobs))
        same_max = max(same_max, sum(job["sourceId"] == sources[0] for job in jobs))
        objects = [world.get("encryptedimages", name) for name in names]
        for found in objects:
            if condition(found, "Ready").get("reason") == "CopyQueued":
                queued.add((found["metadata"]["name"], found["status"]["queuePosition"]))
        return all(truth(found, "Ready") == "True" for found in objects)
    until("all copies are ready", all_ready, 90)
    world.sim("PUT", "clock", {"scale": 60})
    expect(running_max == 5, f"{running_max} copies ran at once")
    expect(same_max == 1, f"{same_max} copies of one source ran at once")
    expect(len({name for name, _ in queued}) >= 2, f"queued were {queued}")
    for name in names:
        one(world, "images", name)


@check
def a_running_copy_is_cancelled_when_its_object_goes(world):
    world.sim("PUT", "clock", {"scale": 1})
    mark = world.mark()
    world.create(image("cancelled"))
    until("the copy runs", lambda: world.owned("images", "default", "cancelled"), 20)
    world.delete("encryptedimages", "cancelled")
    world.until_gone("encryptedimages", "cancelled", 30)
    world.sim("PUT", "clock", {"scale": 60})
    expect([call["code"] for call in world.calls("CancelCopyImage", mark)] == ["OK"], "one CancelCopyImage")
    expect(world.owned("images", "default", "cancelled") == [], "nothing is left")


@check
def deletion_at_any_stage_leaves_nothing_behind(world):
    chance = random.Random(7)
    names = [f"brief-{number}" for number in range(12)]
    for number, name in enumerate(names):
        source = world.change("create", "image", f"m-bp1brief{number:02}", sizeGib=1)["id"]
        world.create(disk(name, deletionPolicy="Delete"))
        world.create(image(name, source=source, deletionPolicy="Delete", snapshotPolicy="Delete"))
        time.sleep(chance.uniform(0, 0.4))
        world.delete("encrypteddisks", names[max(0, number - chance.randrange(3))])
        world.delete("encryptedimages", names[max(0, number - chance.randrange(3))])
    for name in names:
        for plural in ("encrypteddisks", "encryptedimages"):
            world.delete(plural, name)
            world.until_gone(plural, name, 60)
        expect(world.owned("disks", "default", name) == [], f"disk of {name}")
        expect(world.owned("images", "default", name) == [], f"image of {name}")


@check
def events_tell_ends_and_nothing_else(world):
    _, events = servers.http("GET", f"{world.api}/apis/events.k8s.io/v1/namespaces/default/events")
    def of(name):
        return [(each["reason"], each["type"]) for each in events["items"] if each["regarding"].get("name") == name]
    expect(of("growing") == [], str(of("growing")))
    expect(of("locked") == [("KeyDisabled", "Warning"), ("Available", "Normal")], str(of("locked")))


@check
def metrics_count_and_nothing_secret_is_told(world, operator):
    code, text = servers.http("GET", operator.metrics)
    expect(code == 200, f"{code}")
    contains(text, 'ecskms_effects_total{kind="EncryptedDisk",what="create"}', "ecskms_leader 1", "ecskms_cloud_calls{", "# EOF")
    _, objects = servers.http("GET", f"{world.api}/apis/ecskms.dev/v1alpha1/encrypteddisks")
    for place, told in [("metrics", text), ("log", world.log(operator)), ("objects", str(objects)), ("request log", str(world.sim("GET", "log")))]:
        expect("pretend-access-key-secret" not in told, f"the secret stands in the {place}")


def main():
    checks = servers.Checks()
    with servers.Servers() as world:
        world.start_api()
        world.start_cloud(60)
        world.install_crds()
        operator = world.start_operator(60)
        for function in CHECKS:
            arguments = (world, operator) if function.__code__.co_argcount == 2 else (world,)
            checks.run(function.__name__, function, *arguments)
        checks.run("the_operator_ends_well", lambda: expect(world.stop(operator) == 0, f"exit code {operator.returncode}"))
        if checks.failed:
            print(world.log(operator)[-3000:])
    checks.end()


if __name__ == "__main__":
    main()
