//! What notifications claim, in a search: beside the records they speak of, and as records of their own where there are none.

use crate::model::event::Action;
use crate::model::journey::{annotate, speaks_of_hop};
use crate::model::query::{Query, Sort};
use crate::model::record::{Record, Role};
use crate::store::{Found, Store, StoreError, Total};
use rayon::prelude::*;
use std::collections::HashSet;

/// Most notifications looked up for one record.
const MOST: usize = 200;
/// Most records that one notification is followed to.
const HOPS: usize = 200;

fn ids(r: &Record) -> Vec<&str> {
    [&r.queue_id, &r.message_id, &r.envelope_id].into_iter().filter_map(|v| v.as_deref()).filter(|v| !v.is_empty()).collect()
}

/// Puts what notifications claim beside the records that they speak of.
pub fn beside(store: &Store, records: &mut [Record]) -> Result<(), StoreError> {
    if !store.has_reports()? {
        return Ok(());
    }
    records.par_iter_mut().filter(|r| r.role == Role::Hop).try_for_each(|r| {
        let reports = store.of_role(Role::Report, &ids(r), MOST)?;
        annotate(r, &reports);
        Ok(())
    })
}

/// Records of the messages that a notification speaks of.
fn hops(store: &Store, report: &Record) -> Result<Vec<Record>, StoreError> {
    let found = store.of_role(Role::Hop, &ids(report), HOPS)?;
    Ok(found.into_iter().filter(|h| speaks_of_hop(report, h)).collect())
}

/// Adds the notifications that meet the query and speak of no record here, in the query's order.
pub fn add_alone(store: &Store, query: &Query, found: &mut Found) -> Result<(), StoreError> {
    let asked = Query { role: Some(Role::Report), ..query.clone() };
    if query.role.is_some() || query.open || !store.has_reports()? {
        return Ok(());
    }
    let limit = query.limit.unwrap_or(usize::MAX);
    let (mut alone, mut problem) = (Vec::new(), None);
    store.for_each(&asked, &mut |_, report| {
        match hops(store, &report) {
            Ok(hops) if hops.is_empty() => alone.push(report),
            Ok(_) => {}
            Err(e) => problem = Some(e),
        }
        problem.is_none() && alone.len() < limit
    })?;
    if let Some(e) = problem {
        return Err(e);
    }
    let more = alone.len() as u64;
    found.records.append(&mut alone);
    order(query, &mut found.records);
    found.records.truncate(limit);
    found.total = match found.total {
        Total::Exact(n) if more < limit as u64 => Total::Exact(n + more),
        Total::Exact(n) | Total::AtLeast(n) => Total::AtLeast(n + more),
    };
    Ok(())
}

fn order(query: &Query, records: &mut [Record]) {
    let place = |r: &Record| if query.sort == Sort::Newest { r.arrival_date.micros.saturating_neg() } else { r.arrival_date.micros };
    records.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.key.cmp(&b.key)));
}

/// `search --reported ACTION`: the records of which notifications claim it, and the notifications that speak of none.
///
/// The other filters are asked of the record that is listed.
pub fn claimed(store: &Store, query: &Query, action: Action) -> Result<Found, StoreError> {
    let asked = Query { role: Some(Role::Report), action: Some(action), sort: query.sort, ..Query::default() };
    let limit = query.limit.unwrap_or(usize::MAX);
    let (mut records, mut keys, mut problem) = (Vec::new(), HashSet::new(), None);
    store.for_each(&asked, &mut |_, report| {
        let found = hops(store, &report).and_then(|mut hops| {
            if hops.is_empty() {
                return Ok(vec![report]);
            }
            beside(store, &mut hops)?;
            hops.retain(|h| h.recipients.iter().any(|p| p.reported.iter().any(|c| c.action == action)));
            Ok(hops)
        });
        match found {
            Ok(found) => {
                let any_role = |r: &Record| {
                    query.matches(r) || (r.role == Role::Report && Query { role: Some(Role::Report), ..query.clone() }.matches(r))
                };
                records.extend(found.into_iter().filter(any_role).filter(|r| keys.insert(r.key.clone())));
            }
            Err(e) => problem = Some(e),
        }
        problem.is_none() && records.len() < limit
    })?;
    if let Some(e) = problem {
        return Err(e);
    }
    let total = if records.len() < limit { Total::Exact(records.len() as u64) } else { Total::AtLeast(records.len() as u64) };
    order(query, &mut records);
    records.truncate(limit);
    Ok(Found { records, total })
}
