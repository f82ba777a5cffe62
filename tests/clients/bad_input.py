#!/usr/bin/env python3
"""Bad input and a bad cloud: each with a clear reason and nothing lost. bad_input.py PATH-OF-ECSKMS.

`ecskms run` between `ecskms apiserver` and `ecskms sim`. What the schema refuses is in kubectl.py; exit codes of commands are in dev.py.
"""
import copy
import time

import servers
from servers import condition, contains, disk, expect, image, truth, until

KEY = "key-hzz65f0a1b2c3d4e5f6a7b8"
ROLE = "AliyunECSDiskEncryptDefaultRole"
CHECKS = []


def check(function):
    """Registers a check under its name."""
    CHECKS.append(function)
    return function


def stands(world, body, reason, *words, calls=()):
    """Creates the object, waits for the reason, and checks that Ready is False, the words are told and no such call was made."""
    mark = world.mark()
    plural, name = body["kind"].lower() + "s", body["metadata"]["name"]
    world.create(body)
    contains(world.until_reason(plural, name, reason, 20), *words)
    made = [call["parameters"] for action in calls for call in world.calls(action, mark)]
    expect(not made, f"calls were made: {made}")
    world.delete(plural, name)
    world.until_gone(plural, name, 20)


@check
def sources_that_cannot_be_copied(world):
    copies = ("CopyImage",)
    stands(world, image("unknown", source="m-bp1none"), "SourceNotFound", "m-bp1none", "cn-hangzhou", calls=copies)
    stands(world, image("elsewhere", source="m-uf6app20g00000000001"), "SourceNotFound", calls=copies)
    stands(world, image("broken", source="m-bp1broken00000000004"), "DependencyNotReady", "unavailable", calls=copies)
    stands(world, image("stuck", source="m-bp1stuck000000000005"), "DependencyNotReady", "still being created", calls=copies)
    stands(world, image("old", source="m-bp1old10g00000000006"), "DependencyNotReady", "deprecated", calls=copies)
    foreign = world.change("create", "image", "m-bp1foreign", ownerAlias="others")["id"]
    stands(world, image("foreign", source=foreign), "SourceNotFound", "not a custom image", calls=copies)
    none = disk("unborn", source={"snapshotId": "s-bp1none"}, sizeGiB=None)
    stands(world, none, "SourceNotFound", "s-bp1none", calls=("CreateDisk",))
    small = disk("small", source={"snapshotId": "s-bp1vault50g000000002"}, sizeGiB=20)
    stands(world, small, "InvalidSpec", "smaller", calls=("CreateDisk",))


@check
def an_image_over_the_limit_is_refused_before_any_call(world):
    big = image("big", source="m-bp1big600g0000000003")
    stands(world, big, "SourceTooLarge", "600 GiB", "ticket", calls=("CopyImage", "DescribeKey", "GetRole"))


@check
def keys_that_ecs_cannot_use(world):
    for name, key, reason, words in [
        ("missing", {"id": "key-none"}, "KeyNotFound", "no such key in region cn-hangzhou"),
        ("nameless", {"alias": "alias/none"}, "KeyNotFound", "no such key"),
        ("abroad", {"id": "4c5d6e7f-8091-4a2b-93c4-d5e6f7a8b9c0"}, "KeyNotFound", "must share a region"),
        ("disabled", {"alias": "alias/ecskms-disabled"}, "KeyDisabled", "key-hzz65f0a1b2c3d4e5f6a7d0 is disabled"),
        ("doomed", {"alias": "alias/ecskms-doomed"}, "KeyPendingDeletion", "Cancel the deletion"),
        ("asymmetric", {"alias": "alias/ecskms-rsa"}, "KeySpecUnsupported", "must be a symmetric key"),
    ]:
        stands(world, disk(name, key=key), reason, words, calls=("CreateDisk",))
        stands(world, image(name, key=key), reason, words, calls=("CopyImage",))
    world.change("create", "key", "key-hollow", state="PendingImport")
    stands(world, disk("hollow", key={"id": "key-hollow"}), "KeyPendingImport", "key-hollow", calls=("CreateDisk",))


@check
def without_the_role_of_ecs_customer_keys_wait_and_the_service_key_works(world):
    role = world.sim("GET", "state")["roles"][ROLE]
    world.change("delete", "role", ROLE)
    try:
        world.create(disk("roleless"))
        contains(world.until_reason("encrypteddisks", "roleless", "EcsRoleMissing", 20), ROLE, "AliyunECSDiskEncryptRolePolicy")
        world.create(disk("served", key={"service": True}))
        world.until_ready("encrypteddisks", "served", 20)
        world.change("create", "role", ROLE, **{**role, "attached": {}})
        time.sleep(7)  # facts about the role are kept for five seconds
        world.until_reason("encrypteddisks", "roleless", "EcsRoleMissing", 20)
    finally:
        world.change("create", "role", ROLE, **role)
    world.until_ready("encrypteddisks", "roleless", 30)


@check
def places_and_categories_that_do_not_exist(world):
    for body in [
        disk("nowhere", zoneId="cn-hangzhou-zz"),
        disk("unsold", zoneId="cn-hangzhou-b", category="cloud_essd"),
        disk("retired", category="cloud", sizeGiB=40),
        disk("tiny", category="cloud_essd", performanceLevel="PL3", sizeGiB=20),
    ]:
        name = body["metadata"]["name"]
        world.create(body)
        found = until(f"{name} is Stalled", lambda: stalled(world, name), 20)
        ready = condition(found, "Ready")
        expect(ready["reason"] in ("RequestRefused", "NoStock", "SourceNotFound", "QuotaExceeded"), str(ready))
        error = found["status"]["lastError"]
        expect(error["code"] and error["requestId"], str(error))
        contains(ready["message"], error["code"])
        expect(not world.owned("disks", "default", name), "no disk")
        world.delete("encrypteddisks", name)
        world.until_gone("encrypteddisks", name, 20)


def stalled(world, name):
    found = world.get("encrypteddisks", name)
    return found if truth(found, "Stalled") == "True" else None


@check
def a_region_that_does_not_exist(world):
    nowhere = disk("lost", region="xx-nowhere", zoneId="xx-nowhere-a", deletionPolicy="Delete")
    world.create(nowhere)
    found = until("it says something", lambda: (world.get("encrypteddisks", "lost") or {}).get("status"), 20)
    expect(truth({"status": found}, "Ready") in ("False", "Unknown"), str(found))
    world.delete("encrypteddisks", "lost")
    world.until_gone("encrypteddisks", "lost", 30)


@check
def names_that_are_taken_or_at_the_limits(world):
    world.create(image("first", imageName="the-name"))
    world.until_ready("encryptedimages", "first", 30)
    stands(world, image("second", imageName="the-name"), "RequestRefused", "InvalidImageName.Duplicated")
    longest = "n" * 63 + "." + "n" * 63 + "." + "n" * 63 + "." + "n" * 61
    expect(len(longest) == 253, "the longest name")
    world.create(disk(longest))
    world.create(image(longest, source="m-bp1web40g00000000001"))
    identifier = world.until_ready("encrypteddisks", longest, 30)["status"]["diskId"]
    expect(len(world.sim("GET", "state")["disks"][identifier]["name"]) <= 128, "the name in the console")
    world.until_ready("encryptedimages", longest, 30)
    code, _ = servers.http("POST", world.url("encrypteddisks"), disk("n" * 254))
    expect(code == 422, f"254 characters: {code}")


@check
def texts_of_every_kind(world):
    world.create(disk("chinese", description="\u52a0\u5bc6\u4e91\u76d8 \U0001f512", tags={"\u90e8\u95e8": "\u652f\u4ed8"}))
    identifier = world.until_ready("encrypteddisks", "chinese", 30)["status"]["diskId"]
    made = world.sim("GET", "state")["disks"][identifier]
    expect((made["description"], made["tags"]["\u90e8\u95e8"]) == ("\u52a0\u5bc6\u4e91\u76d8 \U0001f512", "\u652f\u4ed8"), str(made))
    for name, spec, field in [
        ("control", {"description": "a\u0000b"}, "spec.description"),
        ("backwards", {"description": "a\u202eb"}, "spec.description"),
        ("linked", {"description": "http://example.com"}, "spec.description"),
        ("line", {"tags": {"team": "a\nb"}}, "spec.tags"),
        ("accounted", {"accountRef": {"name": "other"}}, "spec.accountRef"),
    ]:
        stands(world, disk(name, **spec), "InvalidSpec", field, calls=("CreateDisk",))
    code, answer = servers.http("POST", world.url("encrypteddisks"), disk("reserved", tags={"ecskms:uid": "x"}))
    expect(code == 422 and "spec.tags" in answer["message"] and "ecskms:" in answer["message"], str(answer))


@check
def objects_that_went_around_the_rules(world):
    """CEL rules are switched off, later the whole schema: the operator must not trust either."""
    name = "encrypteddisks.ecskms.dev"
    url = f"{world.api}/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
    _, original = servers.http("GET", url)
    kept = {"apiVersion": original["apiVersion"], "kind": original["kind"], "metadata": {"name": name}, "spec": original["spec"]}
    loose = copy.deepcopy(kept)
    schema = loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    region = {"region": {"type": "string"}}  # spec.region is selectable, so it must keep its type
    schema["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": region}
    try:
        world.apply_crd(loose)
        both = {"id": KEY, "service": True}
        until("the rules are off", lambda: loosened(world, both), 20)
        contains(world.until_reason("encrypteddisks", "around", "InvalidSpec", 20), "spec.key", "exactly one")
        world.create(disk("shapeless", sizeGiB="many"))
        world.create(disk("shaped"))
        world.until_ready("encrypteddisks", "shaped", 20)
        world.until_reason("encrypteddisks", "shapeless", "InvalidSpec", 20)
        smuggled = disk("smuggled", source={"snapshotId": "s-1&Action=DeleteInstance"})
        stands(world, smuggled, "InvalidSpec", "spec.source.snapshotId", calls=("CreateDisk", "DeleteInstance"))
        stands(world, disk("host", region="evil.example.com/#"), "InvalidSpec", "spec.region", calls=("CreateDisk",))
        stands(world, disk("reserved", tags={"ecskms:uid": "x"}), "InvalidSpec", "spec.tags", calls=("CreateDisk",))
        for each in ("around", "shapeless"):
            world.delete("encrypteddisks", each)
            world.until_gone("encrypteddisks", each, 20)
    finally:
        world.apply_crd(kept)
    until("the rules are back", lambda: servers.http("POST", world.url("encrypteddisks") + "?dryRun=All", disk("z", key={}))[0] == 422, 20)


def loosened(world, key):
    return servers.http("POST", world.url("encrypteddisks"), disk("around", key=key))[0] == 201


@check
def answers_that_are_no_answers(world):
    """Three bad answers to every action, then good ones: the object becomes Ready, with one resource."""
    for number, body in enumerate(["html", "truncated", "empty", "array", "text", "huge", "unknown-status"]):
        faults = [{"action": "*", "body": body, "times": 3, "when": when} for when in ("before", "after")]
        name = f"answers-{body}"
        world.sim("PUT", "faults", faults)
        world.create(disk(name))
        world.create(image(name, source=world.change("create", "image", f"m-bp1answers{number}", sizeGib=5)["id"]))
        world.until_ready("encrypteddisks", name, 90)
        world.until_ready("encryptedimages", name, 90)
        world.sim("DELETE", "faults")
        for collection in ("disks", "images"):
            expect(len(world.owned(collection, "default", name)) == 1, f"{collection} of {name}")


@check
def status_words_that_nobody_knows(world):
    world.create(disk("strange", deletionPolicy="Delete"))
    identifier = world.until_ready("encrypteddisks", "strange", 20)["status"]["diskId"]
    world.change("set", "disk", identifier, status="Quantum")
    look(world, "strange")
    contains(world.until_reason("encrypteddisks", "strange", "StatusUnknown", 20), identifier)
    world.delete("encrypteddisks", "strange")
    time.sleep(2)
    expect(len(world.owned("disks", "default", "strange")) == 1, "nothing is done while the status is unknown")
    world.change("set", "disk", identifier, status="Available")
    world.until_gone("encrypteddisks", "strange", 30)
    expect(not world.owned("disks", "default", "strange"), "deleted once the status is known")


def look(world, name):
    patch = {"metadata": {"annotations": {"ecskms.dev/reconcile-requested-at": str(time.monotonic())}}}
    servers.http("PATCH", world.url("encrypteddisks", name), patch, "application/merge-patch+json")


@check
def an_empty_list_is_not_taken_for_absence_of_what_exists(world):
    world.create(disk("hidden"))
    identifier = world.until_ready("encrypteddisks", "hidden", 20)["status"]["diskId"]
    mark = world.mark()
    world.sim("PUT", "faults", [{"action": "DescribeDisks", "body": "empty-list", "when": "after"}])
    look(world, "hidden")
    world.until_reason("encrypteddisks", "hidden", "ExternalGone", 20)
    world.sim("DELETE", "faults")
    expect(world.until_ready("encrypteddisks", "hidden", 20)["status"]["diskId"] == identifier, "the same disk")
    expect(not world.calls("CreateDisk", mark), "nothing was created meanwhile")


@check
def arrears_and_quotas(world):
    for code, status, reason in [
        ("Account.Arrearage", 400, "Arrears"),
        ("QuotaExceed.PostPaidDisk", 403, "QuotaExceeded"),
        ("OperationDenied.NoStock", 403, "NoStock"),
    ]:
        world.sim("PUT", "faults", [{"action": "CreateDisk", "status": status, "code": code}])
        name = f"refused-{reason.lower()}"
        world.create(disk(name))
        contains(world.until_reason("encrypteddisks", name, reason, 20), code)
        expect(not world.owned("disks", "default", name), "no disk")
        world.sim("DELETE", "faults")
        world.until_ready("encrypteddisks", name, 60)
        expect(len(world.owned("disks", "default", name)) == 1, f"disk of {name}")


@check
def a_limited_identity_is_told_the_action(world):
    namespaced(world, "limited", servers.LIMITED_KEY)
    policy = world.sim("GET", "settings")["limitedPolicy"]
    for number, (action, plural, body) in enumerate([
        ("ecs:CreateDisk", "encrypteddisks", disk("x")),
        ("ecs:CopyImage", "encryptedimages", image("x", source="m-bp1web40g00000000001")),
        ("kms:DescribeKey", "encrypteddisks", disk("x", key={"id": "key-hzz65f0a1b2c3d4e5f6a7c9"})),
        ("ram:GetRole", "encrypteddisks", disk("x")),
    ]):
        denied = copy.deepcopy(policy)
        denied["Statement"].append({"Effect": "Deny", "Action": [action], "Resource": "*"})
        world.sim("PUT", "settings", {"limitedPolicy": denied})
        time.sleep(6)  # facts about keys and the role are kept for five seconds
        body["metadata"] = {"name": f"x-{number}", "namespace": "limited"}
        world.create(body)
        contains(reason_in(world, "limited", plural, f"x-{number}", "AccessDenied"), action)
        world.sim("PUT", "settings", {"limitedPolicy": policy})
        until("it heals", lambda: truth(world.get(plural, f"x-{number}", "limited"), "Ready") == "True", 30)


@check
def credentials_that_are_wrong_missing_or_half(world):
    wrong = {**servers.ACCESS_KEY, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "not-the-secret-at-all"}
    half = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "pretend-access-key"}
    unknown = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "nobody", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "nothing-that-is-known"}
    for name, key in [("wrong", wrong), ("half", half), ("unknown", unknown), ("none", {})]:
        process = namespaced(world, name, key)
        body = disk("x")
        body["metadata"]["namespace"] = name
        world.create(body)
        message = reason_in(world, name, "encrypteddisks", "x", "CredentialsInvalid")
        for place in (message, world.log(process), str(world.get("encrypteddisks", "x", name))):
            expect("not-the-secret-at-all" not in place, "the secret is told")
        expect(world.stop(process) == 0, "a good end")


@check
def a_session_that_expires(world):
    try:
        from alibabacloud_sts20150401 import models
        from alibabacloud_sts20150401.client import Client
        from alibabacloud_tea_openapi.utils_models import Config
    except ImportError:
        print("SKIPPED a_session_that_expires: there is no Alibaba Cloud SDK")
        return
    host = world.cloud.removeprefix("http://")
    client = Client(Config(access_key_id="pretend-access-key", access_key_secret="pretend-access-key-secret", endpoint=host, protocol="HTTP", region_id="cn-hangzhou"))
    request = models.AssumeRoleRequest(role_arn="acs:ram::1234567890123456:role/ecskms-operator", role_session_name="test")
    session = client.assume_role(request).body.credentials
    namespaced(world, "session", {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": session.access_key_id,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": session.access_key_secret,
        "ALIBABA_CLOUD_SECURITY_TOKEN": session.security_token,
    })
    first, second = disk("x"), disk("y")
    first["metadata"]["namespace"] = second["metadata"]["namespace"] = "session"
    world.create(first)
    until("it works with a token", lambda: truth(world.get("encrypteddisks", "x", "session"), "Ready") == "True", 20)
    world.sim("DELETE", "sessions")
    world.create(second)
    reason_in(world, "session", "encrypteddisks", "y", "CredentialsInvalid")


def namespaced(world, name, key):
    """An operator of its own for a namespace, with other credentials."""
    servers.http("POST", f"{world.api}/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return world.start_operator(60, key, ("--namespace", name))


def reason_in(world, namespace, plural, name, reason):
    """Waits for a reason in another namespace, and answers the message."""
    def reached():
        ready = condition(world.get(plural, name, namespace), "Ready")
        return ready if ready.get("reason") == reason else None
    try:
        return until(f"{namespace}/{name} has reason {reason}", reached, 30)["message"]
    except TimeoutError as error:
        raise TimeoutError(f"{error}; it is {condition(world.get(plural, name, namespace), 'Ready')}") from None


def main():
    checks = servers.Checks()
    with servers.Servers() as world:
        world.start_api()
        world.start_cloud(60)
        world.install_crds()
        operator = world.start_operator(60, extra=("--namespace", "default"))
        for function in CHECKS:
            checks.run(function.__name__, function, world)
            world.sim("DELETE", "faults")
        checks.run("the_operator_is_still_alive", lambda: expect(operator.poll() is None, world.log(operator)[-2000:]))
    checks.end()


if __name__ == "__main__":
    main()
