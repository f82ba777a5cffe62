//! Content negotiation: which form of the answer the client asked for.
//!
//! It never offers protobuf: clients that ask for it also accept JSON.

use super::status::Refusal;

/// Encoding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Shape of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As it is.
    Whole,
    /// `meta.k8s.io` Table of that version.
    Table(&'static str),
    /// PartialObjectMetadata.
    Partial,
    /// PartialObjectMetadataList.
    PartialList,
    /// The aggregated discovery document.
    Discovery,
}

/// What was agreed upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Encoding.
    pub encoding: Encoding,
    /// Shape.
    pub shape: Shape,
}

/// The first clause of the Accept header that can be served; `allowed` says which shapes the path has.
pub fn negotiate(header: Option<&str>, allowed: impl Fn(&Shape) -> bool) -> Result<Accept, Refusal> {
    let header = header.unwrap_or("*/*");
    let mut clauses: Vec<(f32, Option<Accept>)> = header.split(',').map(clause).collect();
    // A stable sort keeps the client's order among equals.
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    let fits = clauses.into_iter().filter_map(|(_, accept)| accept).find(|accept| allowed(&accept.shape));
    fits.ok_or_else(Refusal::not_acceptable)
}

fn clause(text: &str) -> (f32, Option<Accept>) {
    let mut parts = text.split(';').map(str::trim);
    let encoding = match parts.next().unwrap_or_default() {
        "" | "*/*" | "application/*" | "application/json" => Some(Encoding::Json),
        "application/yaml" => Some(Encoding::Yaml),
        _ => None,
    };
    let (mut quality, mut kind, mut group, mut version) = (1.0, "", "", "");
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key.trim() {
            "q" => quality = value.trim().parse().unwrap_or(1.0),
            "as" => kind = value.trim(),
            "g" => group = value.trim(),
            "v" => version = value.trim(),
            _ => {}
        }
    }
    let shape = match (kind, group, version) {
        ("", _, _) => Some(Shape::Whole),
        ("Table", "meta.k8s.io", "v1") => Some(Shape::Table("v1")),
        ("Table", "meta.k8s.io", "v1beta1") => Some(Shape::Table("v1beta1")),
        ("PartialObjectMetadata", "meta.k8s.io", "v1") => Some(Shape::Partial),
        ("PartialObjectMetadataList", "meta.k8s.io", "v1") => Some(Shape::PartialList),
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Some(Shape::Discovery),
        _ => None,
    };
    (quality, encoding.zip(shape).map(|(encoding, shape)| Accept { encoding, shape }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(header: &str) -> Option<Shape> {
        negotiate(Some(header), |shape| *shape != Shape::Discovery).ok().map(|accept| accept.shape)
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        for (header, expected) in [
            ("*/*", Some(Shape::Whole)),
            ("application/vnd.kubernetes.protobuf,application/json", Some(Shape::Whole)),
            ("application/vnd.kubernetes.protobuf", None),
            (table, Some(Shape::Table("v1"))),
            ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Some(Shape::Whole)),
            ("application/json;as=Table;v=v9;g=meta.k8s.io", None),
            (
                "application/json;q=0.5,application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
                Some(Shape::Partial),
            ),
            ("application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io", None),
        ] {
            assert_eq!(shape(header), expected, "{header}");
        }
    }
}
