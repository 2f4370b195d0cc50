//! Stripe's lists: newest first, paged by the ids of neighbours, filtered by creation time.

use crate::error::StripeError;
use crate::form::Params;

/// Items of a page, unless the request says otherwise.
const PAGE: i64 = 10;
/// Items of a page at most.
const PAGE_MAX: usize = 100;

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    limit: usize,
    starting_after: Option<String>,
    ending_before: Option<String>,
    /// Creation times in seconds, both ends included.
    created: (i64, i64),
}

impl Page {
    pub(crate) fn read(p: &mut Params) -> Result<Self, StripeError> {
        let limit = p.integer("limit")?.unwrap_or(PAGE);
        let limit = usize::try_from(limit)
            .ok()
            .filter(|limit| (1..=PAGE_MAX).contains(limit))
            .ok_or_else(|| {
                StripeError::invalid(format!("Invalid limit: must be from 1 to {PAGE_MAX}."))
                    .param("limit")
            })?;
        let exact = p.integer("created")?;
        let after = p.integer("created[gt]")?.map(|at| at.saturating_add(1));
        let from = p.integer("created[gte]")?;
        let before = p.integer("created[lt]")?.map(|at| at.saturating_sub(1));
        let until = p.integer("created[lte]")?;
        let oldest = [exact, after, from].into_iter().flatten().max();
        let newest = [exact, before, until].into_iter().flatten().min();
        let page = Self {
            limit,
            starting_after: p.text("starting_after")?,
            ending_before: p.text("ending_before")?,
            created: (oldest.unwrap_or(i64::MIN), newest.unwrap_or(i64::MAX)),
        };
        if page.starting_after.is_some() && page.ending_before.is_some() {
            return Err(StripeError::invalid(
                "You cannot specify both starting_after and ending_before.",
            ));
        }
        Ok(page)
    }

    /// The wanted part of `items`, newest first, and whether there is more in that direction.
    ///
    /// `items` stand oldest first, with creation times that never fall, so the time filter is two binary
    /// searches. `position` finds an id, `keep` filters further.
    pub(crate) fn of<'a, T>(
        &self,
        items: &'a [T],
        position: impl Fn(&str) -> Option<usize>,
        created: impl Fn(&T) -> i64,
        keep: impl Fn(&T) -> bool,
    ) -> Result<(Vec<&'a T>, bool), StripeError> {
        let mut low = items.partition_point(|item| created(item) < self.created.0);
        let mut high = items.partition_point(|item| created(item) <= self.created.1);
        let find = |id: &Option<String>, param| match id {
            None => Ok(None),
            Some(id) => position(id)
                .map(Some)
                .ok_or_else(|| StripeError::missing("object", id, param)),
        };
        if let Some(at) = find(&self.starting_after, "starting_after")? {
            high = high.min(at);
        }
        let upwards = find(&self.ending_before, "ending_before")?;
        if let Some(at) = upwards {
            low = low.max(at + 1);
        }
        let window = items.get(low..high).unwrap_or_default().iter();
        let wanted = self.limit + 1;
        let mut found: Vec<&T> = if upwards.is_some() {
            window.filter(|item| keep(item)).take(wanted).collect()
        } else {
            window
                .rev()
                .filter(|item| keep(item))
                .take(wanted)
                .collect()
        };
        let has_more = found.len() > self.limit;
        found.truncate(self.limit);
        if upwards.is_some() {
            found.reverse();
        }
        Ok((found, has_more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(query: &str) -> Result<(Vec<i64>, bool), StripeError> {
        let items: Vec<i64> = (0..10).collect();
        let mut params = Params::read(query.as_bytes())?;
        let page = Page::read(&mut params)?;
        params.finish()?;
        let position = |id: &str| id.parse().ok().filter(|at| *at < 10_usize);
        let (found, more) = page.of(&items, position, |item| *item, |_| true)?;
        Ok((found.into_iter().copied().collect(), more))
    }

    #[test]
    fn pages_run_from_the_newest_both_ways() {
        assert_eq!(list("limit=3"), Ok((vec![9, 8, 7], true)));
        assert_eq!(list("limit=3&starting_after=7"), Ok((vec![6, 5, 4], true)));
        assert_eq!(list("limit=3&starting_after=3"), Ok((vec![2, 1, 0], false)));
        assert_eq!(list("limit=3&ending_before=4"), Ok((vec![7, 6, 5], true)));
        assert_eq!(list("limit=3&ending_before=6"), Ok((vec![9, 8, 7], false)));
        assert_eq!(list("starting_after=0"), Ok((vec![], false)));
    }

    #[test]
    fn creation_times_filter() {
        assert_eq!(list("created[gte]=7"), Ok((vec![9, 8, 7], false)));
        assert_eq!(list("created[gt]=7&created[lt]=9"), Ok((vec![8], false)));
        assert_eq!(list("created=3"), Ok((vec![3], false)));
        assert_eq!(list("created[gte]=8&created[lte]=2"), Ok((vec![], false)));
        assert_eq!(list("created[lte]=5&ending_before=8"), Ok((vec![], false)));
    }

    #[test]
    fn wrong_pages_are_refused() {
        for wrong in [
            "limit=0",
            "limit=101",
            "starting_after=77",
            "starting_after=1&ending_before=2",
        ] {
            assert!(list(wrong).is_err(), "{wrong}");
        }
    }
}
