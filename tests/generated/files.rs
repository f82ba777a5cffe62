//! The generated files are what `manifests` says, and there are no others beside them.
//!
//! Knows how a value becomes a file; what the value is, is `manifests`' business.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ecskms::manifests::{self, NAME, NAMESPACE, admission, people};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

/// First line of every generated file.
const MARK: &str =
    "# Written by `UPDATE=1 cargo test --test generated` from src/manifests.rs: do not edit.\n";
/// Folders in which every YAML file is generated.
const WHOLE_FOLDERS: [&str; 2] = ["crds", "charts/ecskms/templates/crds"];

#[test]
fn every_generated_file_is_current() {
    let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    let mut stale = Vec::new();
    for (name, text) in files() {
        let path = root().join(&name);
        if update {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
            std::fs::write(&path, &text).expect("the file can be written");
        }
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "not current: {stale:?}; run UPDATE=1 cargo test --test generated");
}

#[test]
fn nothing_else_lies_beside_the_generated_files() {
    let expected: BTreeSet<String> = files().into_keys().collect();
    for folder in WHOLE_FOLDERS {
        for entry in std::fs::read_dir(root().join(folder)).expect("the folder is there") {
            let name = format!("{folder}/{}", entry.expect("readable").file_name().to_string_lossy());
            assert!(expected.contains(&name), "{name} belongs to no kind any more; delete it");
        }
    }
}

#[test]
fn generated_yaml_reads_back_as_the_same_objects() {
    for crd in manifests::crds() {
        let name = crd.metadata.name.clone().expect("a name");
        let text = files().remove(&format!("crds/{name}.yaml")).expect("the file is generated");
        let read: CustomResourceDefinition = serde_saphyr::from_str(&text).expect("it is YAML of a CRD");
        assert_eq!(read, crd);
    }
}

#[test]
fn chart_templates_hold_no_braces_of_the_schemas() {
    for (name, text) in manifests::crd_files() {
        assert!(!text.contains("{{"), "{name}: Helm would take this for a template");
    }
}

/// Path below the root, and text.
fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut names = Vec::new();
    for (name, text) in manifests::crd_files() {
        let text = text.strip_prefix("---\n").expect("a document mark").to_owned();
        files.insert(format!("crds/{name}.yaml"), format!("{MARK}{text}"));
        files.insert(format!("charts/ecskms/templates/crds/{name}.yaml"), chart_crd(&text));
        names.push(format!("{name}.yaml"));
    }
    let version = "kustomize.config.k8s.io/v1beta1";
    let list = json!({ "apiVersion": version, "kind": "Kustomization", "resources": names });
    files.insert("crds/kustomization.yaml".into(), format!("{MARK}{}", manifests::to_yaml(&list)));
    files.insert("deploy/rbac.yaml".into(), format!("{MARK}{}", rbac(Form::Plain)));
    files.insert("charts/ecskms/templates/rbac.yaml".into(), format!("{MARK}{}", rbac(Form::Chart)));
    files.insert("deploy/admission.yaml".into(), format!("{MARK}{}", guards(Form::Plain)));
    files.insert("charts/ecskms/templates/admission.yaml".into(), format!("{MARK}{}", guards(Form::Chart)));
    files.insert("deploy/argocd/argocd-cm.yaml".into(), argocd());
    files
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Plain,
    Chart,
}

/// Operator and election roles with their bindings, then the roles for people.
fn rbac(form: Form) -> String {
    let object = |kind: &str, value: Value| object("rbac.authorization.k8s.io/v1", kind, value);
    let always = [
        object("ClusterRole", json!(manifests::operator_role())),
        object("ClusterRoleBinding", json!(manifests::operator_binding())),
        object("Role", json!(manifests::election_role())),
        object("RoleBinding", json!(manifests::election_binding())),
        object("Role", json!(manifests::credentials_role())),
        object("RoleBinding", json!(manifests::credentials_binding())),
    ];
    let [view, edit, edit_for_editors] =
        [manifests::view_role(), manifests::edit_role(), manifests::edit_role_for_editors()]
            .map(|role| [object("ClusterRole", json!(role))]);
    let [view, edit] = match form {
        Form::Plain => [documents(&view, form), documents(&edit, form)],
        Form::Chart => [
            aggregated(&documents(&view, form), ".Values.rbac.aggregateView"),
            aggregated(&documents(&edit_for_editors, form), ".Values.rbac.aggregateEdit"),
        ],
    };
    let reports = object("Role", json!(people::reports_role()));
    let people = people::revocation_roles().into_iter().map(|role| object("ClusterRole", json!(role)));
    let people: Vec<_> = people.chain([reports]).collect();
    [
        documents(&always, form),
        view,
        edit,
        optional(documents(&people, form), ".Values.rbac.revocation", form),
    ]
    .concat()
}

/// The labels that add a role to built-in ones, only where a value asks for them.
fn aggregated(text: &str, condition: &str) -> String {
    let is_label = |line: &&str| line.contains("/aggregate-to-");
    let labels: String = text.lines().filter(is_label).map(|line| format!("{line}\n")).collect();
    assert!(text.contains(&labels) && !labels.is_empty(), "they stand in a row: {text}");
    text.replace(&labels, &format!("    {{{{- if {condition} }}}}\n{labels}    {{{{- end }}}}\n"))
}

/// Each admission policy with its binding.
fn guards(form: Form) -> String {
    let object = |kind: &str, value: Value| object("admissionregistration.k8s.io/v1", kind, value);
    let pairs = admission::policies().into_iter().zip(admission::bindings());
    let objects: Vec<Value> = pairs
        .flat_map(|(policy, binding)| {
            [
                object("ValidatingAdmissionPolicy", json!(policy)),
                object("ValidatingAdmissionPolicyBinding", json!(binding)),
            ]
        })
        .collect();
    optional(documents(&objects, form), ".Values.admission.enabled", form)
}

fn documents(objects: &[Value], form: Form) -> String {
    objects.iter().map(|value| format!("---\n{}", document(value, form))).collect()
}

fn optional(text: String, condition: &str, form: Form) -> String {
    match form {
        Form::Plain => text,
        Form::Chart => format!("{{{{- if {condition} }}}}\n{text}{{{{- end }}}}\n"),
    }
}

fn object(api_version: &str, kind: &str, mut value: Value) -> Value {
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    value
}

/// One object as YAML; in a chart, with the release's names, namespace and labels.
fn document(value: &Value, form: Form) -> String {
    if form == Form::Plain {
        return manifests::to_yaml(value);
    }
    let fullname = "{{ include \"ecskms.fullname\" . }}";
    let mut value = value.clone();
    for path in ["/metadata/name", "/roleRef/name", "/subjects/0/name", "/spec/policyName"] {
        if let Some(Value::String(name)) = value.pointer_mut(path) {
            *name = format!("FULLNAME{}", name.strip_prefix(NAME).expect("all begin with it"));
        }
    }
    let variables = value.pointer_mut("/spec/variables").and_then(Value::as_array_mut).into_iter().flatten();
    for variable in variables {
        match variable["name"].as_str() {
            Some(admission::AUTOMATION) => variable["expression"] = "AUTOMATION".into(),
            Some(admission::APPROVALS_MIN) => variable["expression"] = "APPROVALS".into(),
            _ => {}
        }
    }
    let text = manifests::to_yaml(&value)
        .replace(&admission::operator_user(), "system:serviceaccount:{{ .Release.Namespace }}:FULLNAME")
        .replace(
            "expression: AUTOMATION",
            "expression: {{ .Values.admission.serviceAccounts | toJson | quote }}",
        )
        .replace("expression: APPROVALS", "expression: {{ .Values.admission.approvalsMin | quote }}")
        // Refusals name the roles.
        .replace("ecskms-revocation-", "FULLNAME-revocation-")
        .replace("FULLNAME", fullname)
        .replace(&format!("namespace: {NAMESPACE}"), "namespace: {{ .Release.Namespace }}");
    with_chart_labels(&text)
}

fn chart_crd(text: &str) -> String {
    let keep = [
        "metadata:",
        "  {{- if .Values.crds.keep }}",
        "  annotations:",
        "    helm.sh/resource-policy: keep",
        "  {{- end }}",
        "",
    ]
    .join("\n");
    let text = with_chart_labels(&text.replacen("metadata:\n", &keep, 1));
    format!("{MARK}{{{{- if .Values.crds.enabled }}}}\n{text}{{{{- end }}}}\n")
}

fn with_chart_labels(text: &str) -> String {
    let plain = format!("    app.kubernetes.io/part-of: {NAME}\n");
    assert_eq!(text.matches(&plain).count(), 1, "{text}");
    text.replace(&plain, "    {{- include \"ecskms.labels\" . | nindent 4 }}\n")
}

/// A patch of Argo CD's ConfigMap: the one health script, for each kind.
fn argocd() -> String {
    let script =
        std::fs::read_to_string(root().join("deploy/argocd/health.lua")).expect("the script is there");
    let script: String =
        script.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect();
    let kinds =
        manifests::crds().into_iter().map(|crd| format!("{}_{}", crd.spec.group, crd.spec.names.kind));
    let entries: String =
        kinds.map(|kind| format!("  resource.customizations.health.{kind}: |\n{script}")).collect();
    let use_it =
        "# kubectl patch configmap argocd-cm --namespace argocd --patch-file deploy/argocd/argocd-cm.yaml\n";
    format!("{MARK}# The script is health.lua.\n{use_it}data:\n{entries}")
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
