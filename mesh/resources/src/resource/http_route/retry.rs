//! Retries of a rule: `retry` (GEP-1731).

use std::sync::Arc;

use weir_model::limits::{DEFAULT_RETRIES, MAX_RETRIES, MAX_RETRY_BACKOFF};
use weir_model::{GatewayDuration, RetryBackoff, RetryPolicy, StatusSet};

use crate::resource::field::duration;
use crate::spec::RetrySpec;
use crate::yaml::{FieldErrors, FieldPathRef};

/// Validates the retries of a rule, for its requests with an idempotent method.
pub(super) fn check(spec: RetrySpec, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Arc<RetryPolicy>> {
    let RetrySpec { attempts, backoff, codes } = spec;
    let retries = check_attempts(attempts, &path.field("attempts"), errors);
    let backoff = match backoff {
        None => Some(RetryBackoff::default()),
        Some(text) => check_backoff(&text, &path.field("backoff"), errors),
    };
    let statuses = check_codes(&codes.unwrap_or_default(), &path.field("codes"), errors);
    Some(Arc::new(RetryPolicy { backoff: backoff?, statuses: statuses?, ..RetryPolicy::new(retries?) }))
}

fn check_attempts(attempts: Option<i64>, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<u32> {
    let Some(number) = attempts else { return Some(DEFAULT_RETRIES) };
    let attempts = u32::try_from(number).ok().filter(|attempts| *attempts <= MAX_RETRIES);
    if attempts.is_none() {
        errors.add(path, format!("{number} retries"), format!("0 to {MAX_RETRIES}"));
    }
    attempts
}

fn check_backoff(text: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<RetryBackoff> {
    let minimum = duration(text, path, errors)?;
    if minimum > MAX_RETRY_BACKOFF {
        let reason = format!("{} before a retry", GatewayDuration(minimum));
        errors.add(path, reason, format!("at most {}", GatewayDuration(MAX_RETRY_BACKOFF)));
        return None;
    }
    Some(RetryBackoff::at_least(minimum))
}

fn check_codes(codes: &[i64], path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<StatusSet> {
    let mut statuses = StatusSet::default();
    let mut is_whole = true;
    for (index, code) in codes.iter().enumerate() {
        if !u16::try_from(*code).is_ok_and(|status| statuses.insert(status)) {
            errors.add(&path.entry(index), format!("{code} is no error status"), "400 to 599");
            is_whole = false;
        }
    }
    is_whole.then_some(statuses)
}
