//! The form of an answer: whole objects and lists, Tables, PartialObjectMetadata.
//!
//! Cells are computed by `table`; what may be asked for is negotiated in `accept`.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::accept::Shape;
use super::call::Answer;
use super::kinds::Resource;
use super::options::Query;
use super::read::served;
use super::status::{Refusal, go_quoted};
use super::table::{self, Column};

/// What the rows of a Table carry beside their cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    Nothing,
    /// PartialObjectMetadata.
    Metadata,
    /// The object.
    Object,
}

/// How one request wants its objects.
#[derive(Clone, Debug)]
pub struct View {
    resource: Arc<Resource>,
    shape: Shape,
    include: Include,
    now: Timestamp,
}

impl View {
    /// A view for one request; a wrong `includeObject` is refused only where it matters.
    pub fn new(
        resource: &Arc<Resource>,
        shape: Shape,
        query: &Query,
        now: Timestamp,
    ) -> Result<View, Refusal> {
        let include = match query.get("includeObject") {
            None | Some("" | "Metadata") => Include::Metadata,
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            Some(_) if !matches!(shape, Shape::Table(_)) => Include::Metadata,
            Some(other) => {
                let words = "Unable to convert to Table as requested: includeObject: Invalid value:";
                let rule = "must be 'Metadata', 'Object', 'None', or empty";
                return Err(Refusal::bad_request(format!("{words} {}: {rule}", go_quoted(other))));
            }
        };
        Ok(View { resource: Arc::clone(resource), shape, include, now })
    }

    /// The answer as JSON.
    pub fn render(&self, answer: &Answer) -> Result<Value, Refusal> {
        match answer {
            Answer::Plain(value) => Ok(value.clone()),
            Answer::Object(object) => match &self.shape {
                Shape::Partial => Ok(partial(object)),
                Shape::PartialList => Err(Refusal::unexpected(
                    "you requested PartialObjectMetadataList, but the requested object is not a list",
                )),
                Shape::Table(version) => {
                    let version_of = &object["metadata"]["resourceVersion"];
                    let meta = if version_of.is_string() {
                        json!({ "resourceVersion": version_of })
                    } else {
                        json!({})
                    };
                    Ok(self.table(version, std::slice::from_ref(object), meta, true))
                }
                _ => Ok(served(&self.resource, object)),
            },
            Answer::List(objects, meta) => match &self.shape {
                Shape::Partial => Err(Refusal::not_acceptable()),
                Shape::PartialList => {
                    let items: Vec<Value> = objects.iter().map(|object| partial(object)).collect();
                    let (kind, version) = ("PartialObjectMetadataList", "meta.k8s.io/v1");
                    Ok(json!({ "kind": kind, "apiVersion": version, "metadata": meta, "items": items }))
                }
                Shape::Table(version) => Ok(self.table(version, objects, meta.clone(), true)),
                _ => Ok(self.list(objects, meta.clone())),
            },
        }
    }

    /// One object of a watch event; only the first Table of a stream has columns.
    pub fn event(&self, object: &Arc<Value>, first: bool) -> Value {
        match &self.shape {
            Shape::Partial | Shape::PartialList => partial(object),
            Shape::Table(version) => {
                let meta = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
                self.table(version, std::slice::from_ref(object), meta, first)
            }
            _ => served(&self.resource, object),
        }
    }

    /// A bookmark at `revision`; `end` marks the end of the initial events.
    pub fn bookmark(&self, revision: u64, end: bool, first: bool) -> Value {
        let mut meta = json!({ "resourceVersion": revision.to_string() });
        if end {
            meta["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({
            "kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": meta.clone(),
        });
        match &self.shape {
            Shape::Table(_) => {
                let mut table = self.event(&Arc::new(object), first);
                let blank = |column: &Column| if column.format == "name" { json!("") } else { Value::Null };
                table["rows"][0]["cells"] = self.resource.columns.iter().map(blank).collect();
                table
            }
            Shape::Partial | Shape::PartialList => partial(&object),
            // Built-in kinds print the creationTimestamp that their type always has.
            _ => object,
        }
    }

    fn list(&self, objects: &[Arc<Value>], mut meta: Value) -> Value {
        let mut items: Vec<Value> = objects.iter().map(|object| served(&self.resource, object)).collect();
        if self.resource.custom {
            if meta["continue"].is_null() {
                meta["continue"] = json!("");
            }
        } else {
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                item.remove("kind");
                item.remove("apiVersion");
            }
        }
        let (kind, version) = (&self.resource.list_kind, self.resource.api_version());
        json!({ "kind": kind, "apiVersion": version, "metadata": meta, "items": items })
    }

    fn table(&self, version: &str, objects: &[Arc<Value>], meta: Value, with_columns: bool) -> Value {
        let columns = &self.resource.columns;
        let row = |object: &Arc<Value>| {
            let object = served(&self.resource, object);
            let cells =
                table::row_cells(columns, &self.resource.group, &self.resource.kind, &object, self.now);
            let object = match self.include {
                Include::Nothing => Value::Null,
                Include::Metadata => partial(&object),
                Include::Object => object,
            };
            json!({ "cells": cells, "object": object })
        };
        let rows: Vec<Value> = objects.iter().map(row).collect();
        let columns: Value = match with_columns {
            true => columns.iter().map(column).collect(),
            false => Value::Null,
        };
        json!({
            "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": meta,
            "columnDefinitions": columns, "rows": rows,
        })
    }
}

fn column(column: &Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format, "description": column.description,
        "priority": column.priority,
    })
}

fn partial(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}
