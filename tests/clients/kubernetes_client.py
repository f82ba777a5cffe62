#!/usr/bin/env python3
"""The official Python client against `ecskms apiserver`: list, watch, patch. kubernetes_client.py PATH-OF-ECSKMS.

Also the core kinds that its users touch first; no operator runs.
"""
import sys
import threading
import time

import servers
from servers import disk, expect

try:
    import kubernetes
    from kubernetes.client.rest import ApiException
except ImportError:
    print("SKIPPED: there is no Python package kubernetes; pip install kubernetes")
    sys.exit(servers.SKIPPED)

GROUP = ("ecskms.dev", "v1alpha1", "default", "encrypteddisks")


def refused(code, function, *arguments, **named):
    """The answer's reason; raises unless the call is refused with the code."""
    try:
        function(*arguments, **named)
    except ApiException as error:
        expect(error.status == code, f"{error.status} instead of {code}: {error.body}")
        return error.body
    raise AssertionError(f"not refused with {code}")


def lists_and_pages(api):
    for number in range(7):
        api.create_namespaced_custom_object(*GROUP, disk(f"paged-{number}"))
    first = api.list_namespaced_custom_object(*GROUP, limit=3)
    expect(len(first["items"]) == 3 and first["metadata"]["continue"], "a page of three and a token")
    names, token = [item["metadata"]["name"] for item in first["items"]], first["metadata"]["continue"]
    for _ in range(10):
        page = api.list_namespaced_custom_object(*GROUP, limit=3, _continue=token)
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
        if not token:
            break
    expect(names == [f"paged-{number}" for number in range(7)], str(names))
    everywhere = api.list_cluster_custom_object("ecskms.dev", "v1alpha1", "encrypteddisks")
    expect(len(everywhere["items"]) == 7, "all namespaces")


def watches_from_a_version_and_stops(api):
    version = api.list_namespaced_custom_object(*GROUP)["metadata"]["resourceVersion"]
    seen = []

    def change():
        time.sleep(0.5)
        api.create_namespaced_custom_object(*GROUP, disk("seen"))
        api.patch_namespaced_custom_object(*GROUP, "seen", {"spec": {"sizeGiB": 31}})
        api.delete_namespaced_custom_object(*GROUP, "seen")
    thread = threading.Thread(target=change)
    thread.start()
    stream = kubernetes.watch.Watch()
    for event in stream.stream(api.list_namespaced_custom_object, *GROUP, resource_version=version, timeout_seconds=20):
        seen.append((event["type"], event["object"]["metadata"]["name"], event["object"]["spec"]["sizeGiB"]))
        if event["type"] == "DELETED":
            stream.stop()
    thread.join()
    expect(seen == [("ADDED", "seen", 20), ("MODIFIED", "seen", 31), ("DELETED", "seen", 31)], str(seen))


def patches_and_replaces(api):
    created = api.create_namespaced_custom_object(*GROUP, disk("changed"))
    merged = api.patch_namespaced_custom_object(*GROUP, "changed", {"spec": {"sizeGiB": 25}})
    expect(merged["spec"]["sizeGiB"] == 25 and merged["metadata"]["generation"] == 2, "merged")
    replace = [{"op": "replace", "path": "/spec/sizeGiB", "value": 26}]
    listed = api.patch_namespaced_custom_object(*GROUP, "changed", replace, _content_type="application/json-patch+json")
    expect(listed["spec"]["sizeGiB"] == 26, "patched by operations")
    stale = refused(409, api.replace_namespaced_custom_object, *GROUP, "changed", created)
    expect("the object has been modified" in stale, stale)
    body = refused(422, api.patch_namespaced_custom_object, *GROUP, "changed", {"spec": {"sizeGiB": 1}})
    expect("sizeGiB can only grow" in body, body)
    status = api.patch_namespaced_custom_object_status(*GROUP, "changed", {"status": {"diskId": "d-1"}, "spec": {"sizeGiB": 90}})
    expect(status["status"]["diskId"] == "d-1" and status["spec"]["sizeGiB"] == 26, "only the status")
    expect(status["metadata"]["generation"] == 3, "a status write is no new generation")
    refused(404, api.get_namespaced_custom_object, *GROUP, "nobody")


def serves_core_kinds(_):
    core = kubernetes.client.CoreV1Api()
    names = [namespace.metadata.name for namespace in core.list_namespace().items]
    expect({"default", "kube-system"} <= set(names), str(names))
    secret = kubernetes.client.V1Secret(metadata=kubernetes.client.V1ObjectMeta(name="s"), string_data={"a": "b"})
    expect(core.create_namespaced_secret("default", secret).data == {"a": "Yg=="}, "stringData becomes data")
    changed = core.patch_namespaced_secret("s", "default", {"stringData": {"c": "d"}})
    expect(changed.data == {"a": "Yg==", "c": "ZA=="}, str(changed.data))
    refused(409, core.create_namespaced_secret, "default", secret)
    lease = kubernetes.client.V1Lease(
        metadata=kubernetes.client.V1ObjectMeta(name="l"), spec=kubernetes.client.V1LeaseSpec(holder_identity="a"))
    leases = kubernetes.client.CoordinationV1Api()
    made = leases.create_namespaced_lease("default", lease)
    made.spec.holder_identity = "b"
    expect(leases.replace_namespaced_lease("l", "default", made).spec.holder_identity == "b", "replaced")
    refused(409, leases.replace_namespaced_lease, "l", "default", made)
    definitions = kubernetes.client.ApiextensionsV1Api().list_custom_resource_definition().items
    expect({"encryptedimages.ecskms.dev", "encrypteddisks.ecskms.dev"} <= {each.metadata.name for each in definitions}, "our CRDs")


def main():
    servers.need_kubectl()
    checks = servers.Checks()
    with servers.Servers() as world:
        world.start_api()
        world.install_crds()
        kubernetes.config.load_kube_config(world.kubeconfig)
        api = kubernetes.client.CustomObjectsApi()
        for function in [lists_and_pages, watches_from_a_version_and_stops, patches_and_replaces, serves_core_kinds]:
            checks.run(function.__name__, function, api)
    checks.end()


if __name__ == "__main__":
    main()
