#!/usr/bin/env python3
"""kubectl against `ecskms apiserver` with our CRDs: kubectl.py PATH-OF-ECSKMS.

Every check asserts on what kubectl prints or how it ends. No operator runs: this is about the API.
"""
import json
import os
import subprocess
import threading
import time

import servers
from servers import contains, disk, expect, image

CHECKS = []


def check(function):
    """Registers a check under its name."""
    CHECKS.append(function)
    return function


def text(body):
    return json.dumps(body)


@check
def crds_are_served_with_names_categories_and_verbs(world):
    listed = world.kubectl("api-resources", "--categories=ecskms", "-o", "wide", "--no-headers")
    contains(listed, "encryptedimages", "eimg", "encrypteddisks", "edisk", "EncryptedDisk", "watch")
    contains(world.kubectl("version"), "Server Version")
    contains(world.kubectl("get", "--raw", "/readyz"), "ok")
    contains(world.kubectl("auth", "can-i", "create", "encrypteddisks"), "yes")


@check
def apply_on_the_client_side_creates_configures_and_leaves_alone(world):
    contains(world.kubectl("apply", "-f", "-", input=text(disk("one"))), "encrypteddisk.ecskms.dev/one created")
    contains(world.kubectl("apply", "-f", "-", input=text(disk("one", sizeGiB=30))), "encrypteddisk.ecskms.dev/one configured")
    contains(world.kubectl("apply", "-f", "-", input=text(disk("one", sizeGiB=30))), "encrypteddisk.ecskms.dev/one unchanged")
    expect(world.kubectl("get", "edisk", "one", "-o", "jsonpath={.spec.sizeGiB},{.spec.deletionPolicy}") == "30,Retain", "size and default")


@check
def apply_on_the_server_side_owns_conflicts_and_forces(world):
    mine = disk("two", description="mine")
    contains(world.kubectl("apply", "--server-side", "--field-manager=alice", "-f", "-", input=text(mine)), "serverside-applied")
    theirs = disk("two", description="theirs")
    refused = world.kubectl("apply", "--server-side", "--field-manager=bob", "-f", "-", input=text(theirs), code=1)
    contains(refused, "conflict", 'alice', ".spec.description")
    world.kubectl("apply", "--server-side", "--field-manager=bob", "--force-conflicts", "-f", "-", input=text(theirs))
    managers = world.kubectl("get", "edisk", "two", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].manager}")
    contains(managers, "alice", "bob")
    expect(world.kubectl("get", "edisk", "two", "-o", "jsonpath={.spec.description}") == "theirs", "bob's text")
    world.kubectl("apply", "--server-side", "--field-manager=bob", "-f", "-", input=text(disk("two")))
    expect(world.kubectl("get", "edisk", "two", "-o", "jsonpath={.spec.description}") == "", "a field that its only owner drops is gone")


@check
def diff_shows_the_change_and_ends_with_one(world):
    world.kubectl("apply", "-f", "-", input=text(disk("compared")))
    expect(world.kubectl("diff", "-f", "-", input=text(disk("compared"))) == "", "no difference, no output")
    shown = world.kubectl("diff", "-f", "-", input=text(disk("compared", sizeGiB=50)), code=1)
    contains(shown, "-  sizeGiB: 20", "+  sizeGiB: 50")
    contains(world.kubectl("diff", "--server-side", "-f", "-", input=text(disk("unborn")), code=1), "+  name: unborn")
    world.kubectl("get", "edisk", "unborn", code=1)


@check
def dry_run_on_the_server_validates_and_keeps_nothing(world):
    contains(world.kubectl("apply", "--dry-run=server", "-f", "-", input=text(disk("dry"))), "created (server dry run)")
    contains(world.kubectl("get", "edisk", "dry", code=1), "NotFound")
    both = disk("dry", key={"id": "key-a", "service": True})
    contains(world.kubectl("apply", "--dry-run=server", "-f", "-", input=text(both), code=1), "exactly one of id, alias and service must be set")


@check
def get_prints_columns_names_yaml_and_selections(world):
    world.kubectl("apply", "-f", "-", input=text(disk("shown")))
    world.kubectl("apply", "-f", "-", input=text(image("pictured")))
    # The size in the table is the disk's, which the operator reports; there is none here.
    world.kubectl("patch", "edisk", "shown", "--subresource=status", "--type=merge", "-p", '{"status":{"sizeGiB":20}}')
    table = world.kubectl("get", "edisk", "shown")
    expect(table.split("\n")[0].split() == ["DISK", "ZONE", "SIZE", "KEY", "ATTACHED", "READY", "REASON", "AGE"] or
           table.split("\n")[0].split() == ["NAME", "DISK", "ZONE", "SIZE", "KEY", "ATTACHED", "READY", "REASON", "AGE"], table)
    contains(table, "shown", "cn-hangzhou-i", "20")
    contains(world.kubectl("get", "edisk", "shown", "-o", "wide"), "MESSAGE")
    contains(world.kubectl("get", "ecskms", "-A"), "encrypteddisk.ecskms.dev/shown", "encryptedimage.ecskms.dev/pictured")
    contains(world.kubectl("get", "alicloud", "-o", "name"), "encryptedimage.ecskms.dev/pictured")
    contains(world.kubectl("get", "edisk", "shown", "-o", "yaml"), "apiVersion: ecskms.dev/v1alpha1", "sizeGiB: 20", "uid:")
    contains(world.kubectl("get", "edisk", "--field-selector=spec.region=cn-hangzhou", "-o", "name"), "shown")
    contains(world.kubectl("get", "edisk", "--field-selector=spec.region=cn-shanghai"), "No resources found")
    contains(world.kubectl("get", "edisk", "--field-selector=metadata.name=shown", "--chunk-size=1", "-o", "name"), "shown")
    contains(world.kubectl("get", "edisk", "--sort-by=.metadata.name", "-o", "custom-columns=N:.metadata.name,Z:.spec.zoneId"), "shown")
    contains(world.kubectl("get", "edisk", "nobody", code=1), 'Error from server (NotFound): encrypteddisks.ecskms.dev "nobody" not found')


@check
def get_watches(world):
    watcher = subprocess.Popen(
        ["kubectl", "get", "edisk", "-w", "--output-watch-events"],
        stdout=subprocess.PIPE, text=True, env=world.kubectl_environment(),
    )
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(iter(watcher.stdout.readline, "")), daemon=True)
    reader.start()
    try:
        servers.until("the watch begins", lambda: lines, 20)
        world.kubectl("apply", "-f", "-", input=text(disk("watched")))
        world.kubectl("patch", "edisk", "watched", "--subresource=status", "--type=merge", "-p", '{"status":{"sizeGiB":44}}')
        world.kubectl("delete", "edisk", "watched")

        def seen():
            ours = [line.split() for line in lines if "watched" in line]
            return ours if len(ours) >= 3 else None
        ours = servers.until("three events", seen, 20)
        expect([event[0] for event in ours[:3]] == ["ADDED", "MODIFIED", "DELETED"], str(ours))
        expect(ours[1][1:4] == ["watched", "cn-hangzhou-i", "44"], str(ours[1]))
    finally:
        watcher.kill()
        watcher.wait()


@check
def describe_shows_fields_and_events(world):
    world.kubectl("apply", "-f", "-", input=text(disk("described")))
    uid = world.kubectl("get", "edisk", "described", "-o", "jsonpath={.metadata.uid}")
    event = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "described.1", "namespace": "default"},
        "eventTime": "2026-01-02T03:04:05.000000Z", "reportingController": "ecskms", "reportingInstance": "test", "action": "Reconcile",
        "reason": "KeyDisabled", "type": "Warning", "note": "the key is disabled",
        "regarding": {"apiVersion": "ecskms.dev/v1alpha1", "kind": "EncryptedDisk", "name": "described", "namespace": "default", "uid": uid},
    }
    world.kubectl("create", "-f", "-", input=text(event))
    contains(world.kubectl("describe", "edisk", "described"), "Size Gi B:", "Events:", "KeyDisabled", "the key is disabled")
    contains(world.kubectl("events", "--for", "encrypteddisk.ecskms.dev/described"), "KeyDisabled")
    contains(world.kubectl("get", "events", "--field-selector=involvedObject.name=described"), "encrypteddisk/described")


@check
def explain_describes_fields(world):
    contains(world.kubectl("explain", "encryptedimage"), "EncryptedImage is a copy of a custom image", "KIND:")
    contains(world.kubectl("explain", "encrypteddisk.spec.sizeGiB"), "Size in GiB", "<integer>")
    contains(world.kubectl("explain", "encryptedimage.spec.key", "--recursive"), "alias", "service")
    contains(world.kubectl("explain", "edisk.spec.nothing", code=1), 'field "nothing" does not exist')


@check
def wait_for_a_condition_a_path_and_deletion(world):
    world.kubectl("apply", "-f", "-", input=text(disk("awaited")))
    contains(world.kubectl("wait", "--for=condition=Ready", "edisk/awaited", "--timeout=1s", code=1), "timed out waiting for the condition")
    status = {"status": {"conditions": [{
        "type": "Ready", "status": "True", "reason": "Available", "message": "x", "lastTransitionTime": "2026-01-02T03:04:05Z"}]}}

    def later():
        time.sleep(1)
        world.kubectl("patch", "edisk", "awaited", "--subresource=status", "--type=merge", "-p", json.dumps(status))
        time.sleep(2)
        world.kubectl("delete", "edisk", "awaited", "--wait=false")
    thread = threading.Thread(target=later)
    thread.start()
    contains(world.kubectl("wait", "--for=condition=Ready", "edisk/awaited", "--timeout=20s"), "condition met")
    contains(world.kubectl("wait", "--for=jsonpath={.spec.sizeGiB}=20", "edisk/awaited", "--timeout=20s"), "condition met")
    contains(world.kubectl("wait", "--for=delete", "edisk/awaited", "--timeout=20s"), "condition met")
    thread.join()


@check
def patches_of_three_kinds_change_what_they_should(world):
    world.kubectl("apply", "-f", "-", input=text(disk("patched")))
    contains(world.kubectl("patch", "edisk", "patched", "--type=merge", "-p", '{"spec":{"sizeGiB":21}}'), "patched")
    contains(world.kubectl("patch", "edisk", "patched", "--type=merge", "-p", '{"spec":{"sizeGiB":21}}'), "patched (no change)")
    move = '[{"op":"test","path":"/spec/sizeGiB","value":21},{"op":"replace","path":"/spec/sizeGiB","value":22}]'
    world.kubectl("patch", "edisk", "patched", "--type=json", "-p", move)
    contains(world.kubectl("patch", "edisk", "patched", "--type=json", "-p", move, code=1), "the server rejected our request")
    world.kubectl("patch", "edisk", "patched", "--subresource=status", "--type=merge", "-p", '{"spec":{"sizeGiB":99},"status":{"diskId":"d-1"}}')
    world.kubectl("patch", "edisk", "patched", "--type=merge", "-p", '{"status":{"diskId":"d-2"}}')
    shown = world.kubectl("get", "edisk", "patched", "-o", "jsonpath={.spec.sizeGiB},{.status.diskId},{.metadata.generation}")
    expect(shown == "22,d-1,3", f"spec, status and generation are {shown}")


@check
def labels_and_annotations_are_set_kept_and_removed(world):
    world.kubectl("apply", "-f", "-", input=text(disk("labelled")))
    contains(world.kubectl("label", "edisk", "labelled", "team=a"), "labeled")
    contains(world.kubectl("label", "edisk", "labelled", "team=b", code=1), "already has a value (a)")
    contains(world.kubectl("get", "edisk", "-l", "team in (a,c)", "-L", "team", "--no-headers"), "labelled")
    contains(world.kubectl("get", "edisk", "-l", "team=b"), "No resources found")
    world.kubectl("label", "edisk", "labelled", "team-")
    contains(world.kubectl("annotate", "edisk", "labelled", "ecskms.dev/reconcile-requested-at=1"), "annotated")
    shown = world.kubectl("get", "edisk", "labelled", "-o", "jsonpath={.metadata.labels},{.metadata.annotations.ecskms\\.dev/reconcile-requested-at}")
    expect(shown == ",1", shown)


@check
def a_stale_replace_is_refused_and_an_edit_succeeds(world):
    world.kubectl("apply", "-f", "-", input=text(disk("replaced")))
    stale = json.loads(world.kubectl("get", "edisk", "replaced", "-o", "json"))
    world.kubectl("patch", "edisk", "replaced", "--type=merge", "-p", '{"spec":{"sizeGiB":23}}')
    stale["spec"]["sizeGiB"] = 40
    refused = world.kubectl("replace", "-f", "-", input=text(stale), code=1)
    contains(refused, "Conflict", "the object has been modified; please apply your changes to the latest version and try again")
    del stale["metadata"]["resourceVersion"]
    # kubectl itself fills in the present version here.
    contains(world.kubectl("replace", "-f", "-", input=text(stale)), "replaced")
    contains(world.kubectl("edit", "edisk", "replaced", environment={"KUBE_EDITOR": "sed -i s/sizeGiB:.40/sizeGiB:\\ 41/"}), "edited")
    expect(world.kubectl("get", "edisk", "replaced", "-o", "jsonpath={.spec.sizeGiB}") == "41", "the edit")


@check
def bad_objects_are_refused_with_the_rule(world):
    world.kubectl("apply", "-f", "-", input=text(disk("ruled", description="text")))
    for patch, words in [
        ({"spec": {"region": "cn-shanghai"}}, "region is immutable; create a new object"),
        ({"spec": {"key": {"id": "key-other"}}}, "key is immutable"),
        ({"spec": {"sizeGiB": 10}}, "sizeGiB can only grow"),
        ({"spec": {"sizeGiB": None}}, "sizeGiB can only grow"),
        ({"spec": {"source": {"snapshotId": "s-1"}}}, "source is immutable"),
        ({"spec": {"zoneId": "cn-hangzhou-h"}}, "zoneId is immutable"),
    ]:
        contains(world.kubectl("patch", "edisk", "ruled", "--type=merge", "-p", json.dumps(patch), code=1), words)
    for body, words in [
        (disk("b", sizeGiB=None), "sizeGiB is required for a blank disk"),
        (disk("b", sizeGiB=0), "should be greater than or equal to 1"),
        (disk("b", sizeGiB="20"), "must be of type integer"),
        (disk("b", key={"alias": "alias/acs/ecs"}), "belong to Alibaba Cloud"),
        (disk("b", key={"service": False}), "service can only be true"),
        (disk("b", key={}), "exactly one of id, alias and service must be set"),
        (disk("b", key=None), "Required value"),
        (disk("b", region="CN"), "spec.region"),
        (disk("b", zoneId="cn-shanghai-b"), "zoneId"),
        (disk("b", category="floppy"), "Unsupported value"),
        (disk("b", diskName="x" * 129), "Too long"),
        (disk("b", diskName="\u4e91\u76d8"), "should match"),
        (disk("b", description="x"), "should be at least 2 chars long"),
        (disk("b", colour="red"), 'unknown field "spec.colour"'),
        (disk("B_b"), "RFC 1123"),
        (image("b", source="aliyun_3.vhd"), "spec.source.imageId"),
        (image("b", copyTimeout="soon"), "spec.copyTimeout"),
    ]:
        contains(world.kubectl("create", "-f", "-", input=text(body), code=1), words)
    contains(world.kubectl("create", "-f", "-", input=text(disk("ruled")), code=1), "already exists")


@check
def a_finalizer_holds_a_deletion(world):
    world.kubectl("apply", "-f", "-", input=text(disk("held")))
    world.kubectl("patch", "edisk", "held", "--type=merge", "-p", '{"metadata":{"finalizers":["ecskms.dev/finalizer"]}}')
    world.kubectl("delete", "edisk", "held", "--wait=false")
    contains(world.kubectl("get", "edisk", "held", "-o", "jsonpath={.metadata.deletionTimestamp}"), "T")
    contains(world.kubectl("delete", "edisk", "held", "--timeout=1s", code=1), "timed out waiting for the condition")
    world.kubectl("patch", "edisk", "held", "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]')
    world.kubectl("wait", "--for=delete", "edisk/held", "--timeout=10s")
    contains(world.kubectl("get", "edisk", "held", code=1), "NotFound")


@check
def namespaces_secrets_and_configmaps_can_be_created(world):
    contains(world.kubectl("create", "namespace", "team"), "namespace/team created")
    contains(world.kubectl("create", "namespace", "team", code=1), "already exists")
    contains(world.kubectl("create", "secret", "generic", "s", "-n", "team", "--from-literal=a=b"), "secret/s created")
    contains(world.kubectl("create", "configmap", "c", "-n", "team", "--from-literal=k=v"), "configmap/c created")
    expect(world.kubectl("get", "secret", "s", "-n", "team", "-o", "jsonpath={.data.a},{.type}") == "Yg==,Opaque", "the secret")
    expect(world.kubectl("get", "cm", "c", "-n", "team", "-o", "jsonpath={.data.k}") == "v", "the config map")
    contains(world.kubectl("create", "configmap", "c", "-n", "nowhere", code=1), 'namespaces "nowhere" not found')
    world.kubectl("apply", "-n", "team", "-f", "-", input=text(disk("inside")))
    world.kubectl("delete", "namespace", "team", "--timeout=20s")
    contains(world.kubectl("get", "edisk", "-n", "team"), "No resources found")


def main():
    servers.need_kubectl()
    checks = servers.Checks()
    with servers.Servers() as world:
        world.start_api()
        checks.run("install", world.install_crds)
        for function in CHECKS:
            checks.run(function.__name__, function, world)
        if checks.failed and os.environ.get("KEEP"):
            print(f"kept {world.directory}")
    checks.end()


if __name__ == "__main__":
    main()
