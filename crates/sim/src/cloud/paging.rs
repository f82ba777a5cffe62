//! The two ways in which lists are cut into pages: by number and by token.
//!
//! Deliberately does not filter: callers hand over exactly the items that the caller of the cloud may see, in
//! the order of their ids.

use serde_json::{Value, json};

use super::names::{next_token, read_next_token};
use super::parameters::Parameters;
use super::refusal::Refusal;

/// One page of a listing.
pub struct Page {
    /// The items of the page.
    pub items: Vec<Value>,
    /// `PageNumber`.
    pub number: i64,
    /// `PageSize`.
    pub size: i64,
    /// `TotalCount` over all pages.
    pub total: usize,
    /// `NextToken`, empty on the last page.
    pub next_token: String,
}

/// The limits of one action's page size.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Smaller wishes are raised to this.
    pub minimum: i64,
    /// Larger wishes are lowered to this.
    pub maximum: i64,
    /// Used when the caller names none.
    pub default: i64,
}

/// Cuts by `PageNumber` and `PageSize` alone.
pub fn by_number(parameters: &Parameters, items: Vec<Value>, sizes: Sizes) -> Result<Page, Refusal> {
    // assumption: page-size-clamped
    let size = parameters.whole("PageSize")?.unwrap_or(sizes.default).clamp(sizes.minimum, sizes.maximum);
    let number = parameters.whole("PageNumber")?.unwrap_or(1).max(1);
    let total = items.len();
    let skipped = usize::try_from((number - 1).saturating_mul(size)).unwrap_or(usize::MAX);
    let items = items.into_iter().skip(skipped).take(size as usize).collect();
    Ok(Page { items, number, size, total, next_token: String::new() })
}

/// Cuts by `MaxResults` and `NextToken` when either is given, by number otherwise. `id_field` names the field
/// that orders the items.
pub fn by_token(
    parameters: &Parameters,
    items: Vec<Value>,
    id_field: &str,
    sizes: Sizes,
) -> Result<Page, Refusal> {
    let token = parameters.text("NextToken");
    let wished = parameters.whole("MaxResults")?;
    if token.is_none() && wished.is_none() {
        return by_number(parameters, items, Sizes { minimum: 1, ..sizes });
    }
    let size = wished.unwrap_or(sizes.default).clamp(sizes.minimum, sizes.maximum);
    let total = items.len();
    let id = |item: &Value| item[id_field].as_str().unwrap_or_default().to_string();
    let after = token.map(read_next_token).transpose()?.unwrap_or_default();
    let mut rest: Vec<Value> = items.into_iter().filter(|item| id(item) > after).collect();
    let more = rest.len() > size as usize;
    rest.truncate(size as usize);
    let next_token =
        if more { rest.last().map(|item| next_token(&id(item))).unwrap_or_default() } else { String::new() };
    // The total is not meaningful with tokens, but the field is there.
    Ok(Page { items: rest, number: 1, size, total, next_token })
}

impl Page {
    /// The page as a response body: `{plural: {singular: [...]}}` and the paging fields.
    pub fn body(self, plural: &str, singular: &str) -> Value {
        json!({
            plural: { singular: self.items },
            "PageNumber": self.number,
            "PageSize": self.size,
            "TotalCount": self.total,
            "NextToken": self.next_token,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { minimum: 2, maximum: 4, default: 3 };

    fn items(count: usize) -> Vec<Value> {
        (0..count).map(|index| json!({"Id": format!("x-{index:03}")})).collect()
    }

    fn with(pairs: &[(&str, &str)]) -> Parameters {
        Parameters(pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    #[test]
    fn tokens_walk_every_item_once_even_when_items_vanish_in_between() {
        let mut seen = Vec::new();
        let mut token = String::new();
        for round in 0..10 {
            let mut all = items(9);
            if round > 0 {
                all.remove(0);
            }
            let page = by_token(&with(&[("MaxResults", "4"), ("NextToken", &token)]), all, "Id", SIZES);
            let page = page.expect("page");
            seen.extend(page.items.iter().map(|item| item["Id"].as_str().expect("id").to_string()));
            token = page.next_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen.len(), 9);
    }

    #[test]
    fn sizes_are_clamped_not_refused() {
        let page = by_token(&with(&[("MaxResults", "1000")]), items(9), "Id", SIZES).expect("page");
        assert_eq!((page.items.len(), page.size), (4, 4));
        let page = by_token(&with(&[("MaxResults", "1")]), items(9), "Id", SIZES).expect("page");
        assert_eq!(page.items.len(), 2);
    }

    #[test]
    fn a_page_beyond_the_end_is_empty() {
        let page =
            by_number(&with(&[("PageNumber", "9"), ("PageSize", "4")]), items(9), SIZES).expect("page");
        assert_eq!((page.items.len(), page.total), (0, 9));
    }

    #[test]
    fn a_foreign_token_is_refused() {
        assert!(by_token(&with(&[("NextToken", "AAAA")]), items(9), "Id", SIZES).is_err());
    }
}
