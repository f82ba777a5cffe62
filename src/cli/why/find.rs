//! An object that is not there: the names that come near, and the other namespaces that have it.

use std::process::ExitCode;

use kube::Client;

use crate::cli::output;
use crate::cli::reading::{self, Picture, Served, Unread};
use crate::diagnosis::Id;

/// Names that are told.
const NAMES_MAX: usize = 5;

/// Says that the object is not there, or that nobody can say so; `flags` make kubectl reach the same cluster.
pub async fn missing(client: &Client, kind: &Served, picture: &Picture, id: &Id, flags: &str) -> ExitCode {
    let what = format!("{} {}", id.kind, output::clean(&id.name));
    let is_kind = |unread: &&Unread| unread.kind == id.kind && unread.object.is_none();
    if let Some(Unread { why, next, .. }) = picture.unread.iter().find(is_kind) {
        return output::fail(&what, why, next);
    }
    let place = id.namespace.as_ref().map(|namespace| format!(" in namespace {}", output::clean(namespace)));
    let why = format!("there is none{}", place.unwrap_or_default());
    let here = picture.diagnosis.objects().iter().filter(|object| object.id.kind == id.kind);
    let near = near(&id.name, here.map(|object| object.id.name.as_str()));
    let mut next = Vec::new();
    if !near.is_empty() {
        next.push(format!("Near it: {}.", near.join(", ")));
    }
    if kind.is_namespaced {
        next.push(match reading::list(client, kind, None).await {
            Err(error) => format!("Whether another namespace has it is not known: {error}."),
            Ok(all) => {
                let same = all.iter().filter(|object| object.metadata.name.as_ref() == Some(&id.name));
                let places: Vec<&str> =
                    same.filter_map(|object| object.metadata.namespace.as_deref()).take(NAMES_MAX).collect();
                match places.is_empty() {
                    true => "No other namespace has it.".to_owned(),
                    false => format!("It is in: {}; give -n.", places.join(", ")),
                }
            }
        });
    }
    let everywhere = if kind.is_namespaced { " -A" } else { "" };
    next.push(format!("All of them: kubectl get {}{everywhere}{flags}", kind.resource.plural));
    output::fail(&what, &why, &next.join(" "))
}

/// The names that come near, the nearest first.
fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let limit = (wanted.chars().count() / 2).clamp(1, 3);
    let rank = |name: &'a str| {
        let contains = wanted.len() > 2 && name.len() > 2 && (name.contains(wanted) || wanted.contains(name));
        let distance = distance(wanted, name);
        (contains || distance <= limit).then_some((distance, name))
    };
    let mut ranked: Vec<_> = names.filter_map(rank).collect();
    ranked.sort_unstable();
    ranked.into_iter().take(NAMES_MAX).map(|(_, name)| name).collect()
}

/// How many characters must be added, taken out or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, c) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = line + 1;
        for (column, d) in other.iter().enumerate() {
            let replaced = corner + usize::from(c != *d);
            corner = row[column + 1];
            row[column + 1] = replaced.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("a", "a")), (3, 3, 0));
        let names = ["orders", "order-archive", "billing", "odrers"];
        assert_eq!(near("ordes", names.into_iter()), ["orders"]);
        assert_eq!(near("ordres", names.into_iter()), ["odrers", "orders"]);
        assert_eq!(near("order", names.into_iter())[0], "orders");
        assert!(near("order", names.into_iter()).contains(&"order-archive"));
        assert!(near("zzzzzz", names.into_iter()).is_empty());
    }
}
